"""From Arrow columns to arrays: ids, numbers, vectors, lists and times, and which column types are taken for what."""
