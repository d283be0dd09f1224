"""From Arrow columns to a batch: the row encoder, rows, past items, and putting rows of several domains together."""
