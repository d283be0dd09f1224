"""Starting from a pretrained run: whether it fits, what is carried over, what is frozen."""
