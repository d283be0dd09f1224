"""Updating a run by increments: from new events, one part after the other."""
