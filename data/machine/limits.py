"""How many CPUs and how much memory this process may use, which in a container is less than the machine has.

Linux's control groups say so, in either of their versions; of all groups around a process the strictest counts. Slurm says it in
variables as well, where a cluster does not enforce it.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import psutil

_MOUNT, _OWN = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
_CONTROLLERS = {"cpu": ("cpu", "cpu,cpuacct", "cpuacct,cpu"), "memory": ("memory",)}


def cpus(mount: Path = _MOUNT, own: Path = _OWN, environment: Mapping[str, str] = os.environ) -> int:
    """How many CPUs this process can keep busy at a time, at least 1.

    Args:
        mount: where control groups are mounted.
        own: the file that tells this process's.
        environment: with Slurm's variables, if it is a job of Slurm's.
    """
    machine = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    found = [float(machine), *_each("cpu", mount, own, _quota)]
    if environment.get("SLURM_JOB_ID") and (of_task := _number(environment.get("SLURM_CPUS_PER_TASK"))):
        found.append(of_task)
    return max(1, int(min(found)))


def memory(mount: Path = _MOUNT, own: Path = _OWN, environment: Mapping[str, str] = os.environ) -> int:
    """How many bytes of memory the processes on this machine that belong together may use; arguments as of `cpus`."""
    found = [float(psutil.virtual_memory().total), *_each("memory", mount, own, _most)]
    if environment.get("SLURM_JOB_ID"):
        mebibytes = _number(environment.get("SLURM_MEM_PER_NODE"))
        of_cpu, on_node = (_number(environment.get(f"SLURM_{name}")) for name in ("MEM_PER_CPU", "CPUS_ON_NODE"))
        mebibytes = mebibytes or (of_cpu * on_node if of_cpu and on_node else None)
        found += [mebibytes * 2**20] if mebibytes else []  # 0: all that the node has
    return int(min(found))


def free_memory(processes: int) -> int:
    """How many more bytes this process may take, one of so many on this machine that are to have the same. Pages that they share count
    as each one's.
    """
    own = memory() // processes - psutil.Process().memory_info().rss
    return max(0, min(own, psutil.virtual_memory().available // processes))


def _each(controller: str, mount: Path, own: Path, limit: Callable[[Path], float | None]) -> Iterator[float]:
    """The limits of a process's control group and of all those around it."""
    for root, path in _groups(controller, mount, own):
        # Within a container the path may be the host's, and what is mounted is the container's own group alone.
        group = root / path.strip("/")
        for folder in (group, *group.parents) if group.is_dir() else (root,):
            if not folder.is_relative_to(root):
                break
            if (found := limit(folder)) is not None:
                yield found


def _groups(controller: str, mount: Path, own: Path) -> Iterator[tuple[Path, str]]:
    """Where a controller is mounted, and the path of this process's group in it; in both versions, for systems may mix them."""
    lines = (_text(own) or "").splitlines()
    for line in lines:
        _, names, path = [*line.split(":", 2), "", ""][:3]
        if not names:
            yield mount, path
            yield mount / "unified", path
        elif controller in names.split(","):
            for folder in _CONTROLLERS[controller]:
                yield mount / folder, path


def _quota(group: Path) -> float | None:
    """CPUs' time per time, of either version; None where there is no limit."""
    if (told := _text(group / "cpu.max")) is not None:
        quota, period = (_number(word) for word in [*told.split(), "", ""][:2])
    else:
        quota, period = (_number(_text(group / f"cpu.cfs_{name}_us")) for name in ("quota", "period"))
    return quota / period if quota and period else None


def _most(group: Path) -> float | None:
    """Bytes, of either version; None where there is no limit. What the first says where there is none is more than a machine has."""
    found = (_number(_text(group / name)) for name in ("memory.max", "memory.limit_in_bytes"))
    return next((limit for limit in found if limit), None)


def _text(path: Path) -> str | None:
    with suppress(OSError, UnicodeDecodeError):
        return path.read_text().strip()
    return None


def _number(text: str | None) -> float | None:
    """A number above zero; None for ``max``, -1 and whatever else is none."""
    return float(text) if text is not None and text.isascii() and text.isdigit() and int(text) else None
