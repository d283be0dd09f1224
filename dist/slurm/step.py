"""A step of a Slurm job, each of whose tasks is a rank: its variables, said as torchrun says them."""

import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ...data.errors import UserError

MEETING = "FOUNDRANK_MEETING"
"""Variable of ranks whose step has one node: the folder in which they meet."""

STEP = "FOUNDRANK_STEP"
"""Variable of ranks that are a step's tasks: ``JOB.STEP``."""

_NO_STEP = 0xFFFFFFF0  # from here on numbers stand for the batch script, an interactive shell and the like
_PORTS = range(20_000, 30_000)  # below those that the system gives away


@dataclass(frozen=True)
class Step:
    """This task among those of its step.

    Attributes:
        name: ``JOB.STEP``.
        rank: number of the task.
        ranks: how many tasks there are.
        local_rank: its number among those of its node.
        local_ranks: how many these are.
        node: number of its node.
        nodes: the names of all nodes.
    """

    name: str
    rank: int
    ranks: int
    local_rank: int
    local_ranks: int
    node: int
    nodes: tuple[str, ...]


def step_here(processes: int | None, environment: Mapping[str, str] = os.environ) -> Step | None:
    """The step whose task this process is; None where it is alone, or something else has started ranks in it.

    Args:
        processes: how many ranks were asked for, if any were.
        environment: its variables.

    Raises:
        UserError: ranks were asked for where each task is one already; or Slurm's variables do not go together.
    """
    if environment.get("RANK") and environment.get("WORLD_SIZE"):
        return None
    if environment.get("SLURM_PTY_PORT"):  # srun --pty: a person types here, whatever the other tasks do
        return None
    rank, step = environment.get("SLURM_PROCID"), environment.get("SLURM_STEP_ID", "")
    if rank is None or not step.isdecimal() or int(step) >= _NO_STEP:
        return None  # a batch script, which there is once however many tasks it may start
    ranks = _number(environment, "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS", usual="1")
    if ranks < 2:
        return None
    if processes is not None:
        raise UserError(
            f"-p {processes}",
            f"is given to each of the {ranks} tasks that srun has started, which are ranks themselves",
            f"Leave -p out, or start one task: srun -n 1 ... -p {processes}.",
        )
    nodes = tuple(expanded(_text(environment, "SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST", "SLURM_NODELIST")))
    node = _number(environment, "SLURM_NODEID", usual="0")
    return Step(
        name=f"{environment.get('SLURM_JOB_ID', '0')}.{step}",
        rank=_number(environment, "SLURM_PROCID"),
        ranks=ranks,
        local_rank=_number(environment, "SLURM_LOCALID"),
        local_ranks=_tasks_of_node(environment, node, ranks, len(nodes)),
        node=node,
        nodes=nodes,
    )


def become_rank(step: Step) -> None:
    """Makes this process the rank that its task is, for all that reads torchrun's variables."""
    told = {
        "RANK": step.rank,
        "WORLD_SIZE": step.ranks,
        "LOCAL_RANK": step.local_rank,
        "LOCAL_WORLD_SIZE": step.local_ranks,
        "GROUP_RANK": step.node,
        "GROUP_WORLD_SIZE": len(step.nodes),
        STEP: step.name,
    }
    os.environ.update({name: str(value) for name, value in told.items()})
    if os.environ.get("SLURM_CPUS_PER_TASK", "").isdecimal():
        os.environ.setdefault("OMP_NUM_THREADS", os.environ["SLURM_CPUS_PER_TASK"])
    if len(step.nodes) == 1:
        # All of a step's tasks know this name, and no other step's or user's.
        os.environ[MEETING] = str(Path(tempfile.gettempdir(), f"foundrank-{os.getuid()}-slurm-{step.name}"))
        return
    os.environ.setdefault("MASTER_ADDR", step.nodes[0])
    job, _, number = step.name.partition(".")
    of_step = (int(job) * 31 + int(number)) % len(_PORTS)
    os.environ.setdefault("MASTER_PORT", str(_PORTS[of_step]))


def expanded(nodes: str) -> list[str]:
    """The names in a list of nodes as Slurm writes it: ``n[001-003,7],login`` are five.

    Raises:
        UserError: it is no such list.
    """
    found: list[str] = []
    for part in re.findall(r"(?:[^,\[\]]|\[[^\[\]]*\])+", nodes):
        found += _names(part)
    if not found or re.sub(r"[^,]|\[[^\[\]]*\]", "", nodes).count(",") >= len(found):
        raise UserError("SLURM_STEP_NODELIST", f"is '{nodes}', which is no list of nodes", "Start ranks with torchrun.")
    return found


def _names(part: str) -> list[str]:
    """What one name stands for, in which there may be ranges."""
    before, bracket, rest = part.partition("[")
    if not bracket:
        return [part]
    inside, _, after = rest.partition("]")
    names = []
    for one in inside.split(","):
        first, dash, last = one.partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise UserError("SLURM_STEP_NODELIST", f"has '{one}' where a number is to be", "Start ranks with torchrun.")
        numbers = range(int(first), int(last if dash else first) + 1)
        names += [f"{before}{number:0{len(first)}d}{end}" for number in numbers for end in _names(after)]
    return names


def _tasks_of_node(environment: Mapping[str, str], node: int, tasks: int, nodes: int) -> int:
    """How many of the step's tasks are on a node; Slurm writes ``2(x3),1`` for three nodes with two and one with one."""
    given = environment.get("SLURM_STEP_TASKS_PER_NODE") or environment.get("SLURM_TASKS_PER_NODE") or ""
    counts: list[int] = []
    for one in given.split(",") if given else []:
        match = re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", one)
        counts += [int(match[1])] * int(match[2] or 1) if match else []
    if len(counts) == nodes and sum(counts) == tasks:
        return counts[node]
    if tasks % nodes:
        raise UserError(
            "SLURM_STEP_TASKS_PER_NODE",
            f"is '{given}', which does not say where {tasks} tasks are on {nodes} nodes",
            "Start as many tasks on each node (--ntasks-per-node), or start ranks with torchrun.",
        )
    return tasks // nodes


def _text(environment: Mapping[str, str], *names: str) -> str:
    return next((environment[name] for name in names if environment.get(name)), "")


def _number(environment: Mapping[str, str], *names: str, usual: str = "") -> int:
    value = _text(environment, *names) or usual
    if not value.isdecimal():
        raise UserError(names[0], f"is '{value}', and no number, in a step of Slurm", "Start ranks with torchrun.")
    return int(value)
