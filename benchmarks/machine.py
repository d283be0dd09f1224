"""What the machine can do, so that figures of other machines can be compared."""

import os
import time
from collections.abc import Callable

import torch

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def instructions() -> str:
    """The widest instructions this CPU has for matrix products, as sections and files of figures are named for it."""
    has = torch.cpu.get_capabilities()
    kinds = {"amx_bf16": "amx", "avx512_bf16": "avx512-bf16", "avx512_f": "avx512", "avx2": "avx2"}
    return next((name for capability, name in kinds.items() if has.get(capability)), "cpu")


def calibration() -> str:
    """Cores and speed, as a sentence."""
    rates = ", ".join(f"{matmul_gflops(dtype):.0f} in {name}" for name, dtype in DTYPES.items())
    return f"{os.cpu_count()} cores; GFLOP/s in a product of 1024 x 1024 matrices: {rates}."


def matmul_gflops(dtype: torch.dtype, size: int = 1024) -> float:
    """Fastest of a few products of two square matrices, in 10^9 floating-point operations a second."""
    a = torch.rand(size, size).to(dtype)
    return 2 * size**3 / _fastest(lambda: torch.mm(a, a)) / 1e9


def copy_gbytes(megabytes: int = 256) -> float:
    """Fastest of a few copies of a block larger than the caches into new memory, in 10^9 bytes read and written a second."""
    block = torch.zeros(megabytes << 20, dtype=torch.uint8)
    return 2 * block.numel() / _fastest(block.clone) / 1e9


def stream_gbytes(megabytes: int = 256) -> float:
    """As `copy_gbytes`, into memory that is there already."""
    block = torch.zeros(megabytes << 20, dtype=torch.uint8)
    target = torch.zeros_like(block)
    return 2 * block.numel() / _fastest(lambda: target.copy_(block)) / 1e9


def _fastest(work: Callable[[], object], repeats: int = 5) -> float:
    """Seconds of the fastest of some runs, after one that does not count."""
    seconds = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return min(seconds[1:])
