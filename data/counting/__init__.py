"""What training must know of the data before its first step, and the pass over the data that finds it."""
