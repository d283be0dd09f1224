"""Dropout that is not the slowest part of a step on a CPU."""

import torch
from torch import Tensor, nn

from .fast import fast_on_cpu


class Dropout(nn.Module):
    """Dropout (Srivastava et al., 2014). On a CPU four 16-bit draws share one random int64.

    That is about twice as fast as ``nn.Dropout``, which takes a fifth of the dense part's time; the share is rounded to
    1/65536.
    """

    def __init__(self, share: float):
        super().__init__()
        self.share = share

    @property
    def scale(self) -> float:
        """What it multiplies the values with that it keeps."""
        return 1 / (1 - self.share) if self.training else 1.0

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not self.share:
            return x
        if not fast_on_cpu(x):
            return nn.functional.dropout(x, self.share)
        draws = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
        keep = draws.view(torch.int16)[: x.numel()].view(x.shape) >= round(self.share * 65536) - 32768
        return x * keep.to(x.dtype).mul_(self.scale)
