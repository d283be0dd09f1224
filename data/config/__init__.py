"""The experiment file: its sections, each field checked where it enters, and reading it with overrides."""
