"""The code store: the codes of a catalog's items, written once, memory-mapped by every reader."""
