"""What the machine can do, so that figures of other machines can be compared."""

import os
import time

import torch

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def calibration() -> str:
    """Cores and speed, as a sentence."""
    rates = ", ".join(f"{matmul_gflops(dtype):.0f} in {name}" for name, dtype in DTYPES.items())
    return f"{os.cpu_count()} cores; GFLOP/s in a product of 1024 x 1024 matrices: {rates}."


def matmul_gflops(dtype: torch.dtype, size: int = 1024, repeats: int = 5) -> float:
    """Fastest of a few products of two square matrices, in 10^9 floating-point operations a second."""
    a = torch.rand(size, size).to(dtype)
    seconds = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        torch.mm(a, a)
        seconds.append(time.perf_counter() - started)
    return 2 * size**3 / min(seconds[1:]) / 1e9


def stream_gbytes(megabytes: int = 256, repeats: int = 5) -> float:
    """As `copy_gbytes`, into memory that is there already."""
    block = torch.zeros(megabytes << 20, dtype=torch.uint8)
    target = torch.zeros_like(block)
    seconds = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        target.copy_(block)
        seconds.append(time.perf_counter() - started)
    return 2 * block.numel() / min(seconds[1:]) / 1e9


def copy_gbytes(megabytes: int = 256, repeats: int = 5) -> float:
    """Fastest of a few copies of a block larger than the caches into new memory, in 10^9 bytes read and written a second."""
    block = torch.zeros(megabytes << 20, dtype=torch.uint8)
    seconds = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        block.clone()
        seconds.append(time.perf_counter() - started)
    return 2 * block.numel() / min(seconds[1:]) / 1e9
