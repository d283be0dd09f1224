"""Which columns an experiment needs and what each must hold, what a bad value is, and the layout of a batch."""
