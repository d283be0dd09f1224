"""Rates: what the labels of training say of an id or a category, as inputs of the model; and which labels a row may know of."""
