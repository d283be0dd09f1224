"""Runs beside one another on the same rows: intervals of their differences, over users and over seeds."""
