"""Parquet events of a domain: finding, checking and reading them, and what becomes of bad rows."""
