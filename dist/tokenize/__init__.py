"""The tokenize job: codes for the items of a catalog, into the code store."""
