"""What tells the weights of one encoder from those of any other."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def add_weights(digest: Any, weights: Mapping[str, Tensor], prefix: str = "") -> None:
    """Adds names, types, shapes and values to a hash of `hashlib`, in the order of names; ``prefix`` goes before each name."""
    for name, tensor in sorted(weights.items()):
        digest.update(f"{prefix}{name}:{tensor.dtype}:{tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
