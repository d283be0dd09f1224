"""Where data comes from besides a user's logs: the simulated platform and importers of public data sets."""
