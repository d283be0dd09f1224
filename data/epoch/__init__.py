"""The seeded order of an epoch's rows, the position in it, and the reader that follows it."""
