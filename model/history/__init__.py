"""The user's past items as a sequence: its encoders, and the next-item objective."""
