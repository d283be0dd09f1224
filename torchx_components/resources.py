"""Named resources, for `-h` of the components: whole nodes as they are common, and one GPU's share of them.

A GPU node's cores and memory are what fits on such nodes of several clouds, beside what Kubernetes keeps for itself. They say
how much is asked for, not which GPU: where a cluster has several kinds, its partition, queue or node selector says that.
"""

from torchx.specs import Resource


def cpu_8() -> Resource:
    """8 cores, 30 GB."""
    return Resource(cpu=8, gpu=0, memMB=30_000)


def cpu_32() -> Resource:
    """32 cores, 120 GB."""
    return Resource(cpu=32, gpu=0, memMB=120_000)


def a100_1() -> Resource:
    """An eighth of ``a100_8``."""
    return Resource(cpu=11, gpu=1, memMB=125_000)


def a100_8() -> Resource:
    """8 A100 of 80 GB."""
    return Resource(cpu=88, gpu=8, memMB=1_000_000)


def h100_1() -> Resource:
    """An eighth of ``h100_8``."""
    return Resource(cpu=11, gpu=1, memMB=200_000)


def h100_8() -> Resource:
    """8 H100 of 80 GB."""
    return Resource(cpu=88, gpu=8, memMB=1_600_000)


def h200_1() -> Resource:
    """An eighth of ``h200_8``."""
    return Resource(cpu=11, gpu=1, memMB=200_000)


def h200_8() -> Resource:
    """8 H200 of 141 GB."""
    return Resource(cpu=88, gpu=8, memMB=1_600_000)
