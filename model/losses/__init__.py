"""Losses beside the tasks' own: alignment between the distributions of domains."""
