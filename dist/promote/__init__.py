"""Which run is in use: a small folder that stands for the current one, can go back to the one before, and remembers all."""
