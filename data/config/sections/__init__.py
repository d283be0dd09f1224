"""The sections of the experiment file, each with its fields, their defaults and what they must be."""
