"""Importers of a user's own plain logs: a sequence per user, or a table of interactions."""
