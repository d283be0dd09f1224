"""Limits of containers and of Slurm's jobs, on control groups made up in a folder."""

import os
from collections.abc import Mapping
from pathlib import Path

import psutil
import pytest

from foundrank.data.machine.limits import cpus, free_memory, memory

GIB = 2**30
MACHINE = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
ALL = psutil.virtual_memory().total


def found(folder: Path, own: str, files: Mapping[str, str], **environment: str) -> tuple[int, int]:
    """CPUs and memory that a process with these control groups may use."""
    (folder / "own").write_text(own)
    for name, content in files.items():
        path = folder / "mount" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n")
    where = folder / "mount", folder / "own", environment
    return cpus(*where), memory(*where)


def test_the_machine_where_nothing_limits(tmp_path: Path):
    assert found(tmp_path, "", {}) == (MACHINE, ALL)
    unlimited = {"cpu.max": "max 100000", "a/cpu.max": "max 100000", "a/memory.max": "max", "memory.max": "max"}
    assert found(tmp_path, "0::/a\n", unlimited) == (MACHINE, ALL)
    assert found(tmp_path, "0::/gone\n", {}) == (MACHINE, ALL)


def test_the_second_version_and_the_strictest_group_around(tmp_path: Path):
    files = {
        "pod/memory.max": str(GIB // 4),
        "pod/box/memory.max": str(GIB // 2),
        "pod/cpu.max": "150000 100000",
        "pod/box/cpu.max": "max 100000",
        "other/memory.max": "4096",
    }
    assert found(tmp_path, "0::/pod/box\n", files) == (1, GIB // 4)
    assert found(tmp_path, "0::/pod/box\n", files | {"pod/box/memory.max": "8192"})[1] == 8192


def test_a_containers_own_group_is_the_root_of_what_is_mounted(tmp_path: Path):
    files = {"cpu.max": "20000 100000", "memory.max": str(GIB // 8)}
    for own in ("0::/\n", "0::/kubepods/pod1/box\n"):  # with and without a namespace of its own
        assert found(tmp_path, own, files) == (1, GIB // 8)


def test_the_first_version(tmp_path: Path):
    own = "5:cpu,cpuacct:/docker/box\n4:memory:/docker/box\n1:name=systemd:/docker/box\n"
    files = {
        "cpu,cpuacct/docker/box/cpu.cfs_quota_us": "100000",
        "cpu,cpuacct/docker/box/cpu.cfs_period_us": "100000",
        "memory/docker/box/memory.limit_in_bytes": "9223372036854771712",
        "memory/docker/memory.limit_in_bytes": str(GIB // 2),
    }
    assert found(tmp_path, own, files) == (1, GIB // 2)
    unlimited = {"cpu,cpuacct/docker/box/cpu.cfs_quota_us": "-1", "memory/docker/memory.limit_in_bytes": "0"}
    assert found(tmp_path, own, unlimited) == (MACHINE, ALL)


@pytest.mark.parametrize(
    ("told", "wanted"),
    [
        ({"SLURM_CPUS_PER_TASK": "1", "SLURM_MEM_PER_NODE": "512"}, (1, GIB // 2)),
        ({"SLURM_MEM_PER_CPU": "128", "SLURM_CPUS_ON_NODE": "2"}, (MACHINE, GIB // 4)),
        ({"SLURM_MEM_PER_NODE": "0", "SLURM_CPUS_PER_TASK": ""}, (MACHINE, ALL)),
        ({"SLURM_CPUS_PER_TASK": "many"}, (MACHINE, ALL)),
    ],
)
def test_what_slurm_says_counts_in_its_jobs_alone(tmp_path: Path, told, wanted):
    assert found(tmp_path, "", {}, SLURM_JOB_ID="7", **told) == wanted
    assert found(tmp_path, "", {}, **told) == (MACHINE, ALL)


def test_rubbish_limits_nothing(tmp_path: Path):
    files = {"cpu.max": "what", "memory.max": "", "memory.limit_in_bytes": "?"}
    assert found(tmp_path, "0::/\nrubbish\n::\n", files) == (MACHINE, ALL)


def test_what_is_free_is_a_share_of_what_is_left_and_never_less_than_nothing(monkeypatch):
    mine, left = psutil.Process().memory_info().rss, psutil.virtual_memory().available
    assert 0 < free_memory(1) <= min(ALL - mine // 2, 2 * left)
    assert free_memory(2) < 0.6 * left + GIB // 8
    assert free_memory(10**6) == 0  # it has more than its share already
    monkeypatch.setattr("foundrank.data.machine.limits.memory", lambda: mine + 2**22)
    assert free_memory(1) < 2**24
