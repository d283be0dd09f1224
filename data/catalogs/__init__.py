"""Catalogs, Parquet tables with one row per entity, and the texts that templates make of them."""
