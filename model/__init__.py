"""What is computed from a batch. Imports ``data``; never ``torch.distributed``."""
