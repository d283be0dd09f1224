"""The content store: the vectors of a catalog's texts, written once, memory-mapped by every reader."""
