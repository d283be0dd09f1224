"""float32 or bfloat16: what a device has instructions for."""

from functools import cache

import torch
from torch import Tensor


@cache
def has_bf16(device: torch.device) -> bool:
    """Whether a device multiplies in bfloat16 faster than in float32; a CPU without such instructions takes up to 80 times as long."""
    capabilities = torch.cpu.get_capabilities()
    return device.type != "cpu" or bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))


def chosen_precision(asked: str, device: torch.device) -> str:
    """``fp32`` or ``bf16``; ``auto`` is the faster of them."""
    if asked != "auto":
        return asked
    return "bf16" if has_bf16(device) else "fp32"


def fuses(x: Tensor) -> bool:
    """Whether oneDNN, torch's library of operators on CPUs, has products of ``x`` that end in a ReLU."""
    if x.device.type != "cpu" or not torch.backends.mkldnn.is_available() or not len(x):
        return False
    return x.dtype == torch.float32 or (x.dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported())
