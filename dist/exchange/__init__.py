"""Rows that are spread over ranks: sent to the rank that needs them, or piece by piece to rank 0, in buffers of a bounded size."""
