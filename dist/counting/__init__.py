"""What a training must know of its data: counted by all ranks, or kept by another training."""
