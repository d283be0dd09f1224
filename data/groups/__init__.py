"""Groups: the candidates that a generator found for each row, how likely it was to find each, and what a reward says of them."""
