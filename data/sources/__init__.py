"""Where data comes from besides a user's logs: importers of public data sets."""
