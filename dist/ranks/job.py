"""From a command, or a call from Python, to the ranks that do its work: what they work on is resolved once and handed to all."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from ...data.errors import UserError
from ...data.machine.memory import give_back_memory
from ..lease.lease import Claim, holding
from ..logs import prometheus
from ..logs.progress import Progress
from ..quick_imports import quick_imports
from .environment import launched
from .launch import check_gpus, default_processes

if TYPE_CHECKING:
    from .runtime import Runtime

Job = TypeVar("Job")


def count_of(processes: int | None) -> int:
    """How many ranks were asked for, or are usual here.

    Raises:
        UserError: more than there are GPUs.
    """
    count = processes or default_processes()
    check_gpus(count)
    return count


def on_ranks(
    resolve: Callable[[], Job],
    work: "Callable[[Job, Runtime], int]",
    processes: int | None,
    own_process: bool = True,
    holds: Callable[[], Claim | None] = lambda: None,
) -> int:
    """Has ranks do ``work(job, runtime)`` and returns the status it ends with, that of the first rank to fail.

    Where a launcher such as torchrun has started this process as one of several, rank 0 resolves the job and the others
    are told. Else it is resolved in this process, so that a mistake is told before any other is started for it.

    Args:
        resolve: reads and checks what there is to do. Its result, a frozen one, can be pickled.
        work: a function of a module, for new processes find it by its name.
        processes: how many ranks there shall be on this machine, where no launcher has started them.
        own_process: whether this process is the job's alone, as a command's is, and a notebook's is not.
        holds: says which folder the job writes into; it has it to itself from before it is resolved until all ranks have ended.

    Raises:
        Held: another job has that folder.
        UserError: as ``resolve`` and ``work`` do; more ranks than GPUs; the folder was lost.
    """
    prometheus.begin()
    with ExitStack() as stack:

        def resolved() -> Job:
            if (claim := holds()) is not None:
                stack.enter_context(held(claim, own_process))
            with Progress("checking what there is to do"):
                return resolve()

        if launched():
            return _with_runtime(lambda runtime: work(runtime.on_main(resolved), runtime), own_process)
        count = count_of(processes)
        job = resolved()
        if count == 1:
            return _with_runtime(lambda runtime: work(job, runtime), own_process)
        from .local_ranks import spawn  # multiprocessing, which one process alone does without

        give_back_memory()  # from now on this process only waits
        return spawn(partial(_as_rank, work, job), count, own_process)


@contextmanager
def held(claim: Claim, own_process: bool = True) -> Iterator[None]:
    """As `holding`; what a command does ends when it loses the folder, and a notebook is told at the end."""
    from .ending import end_at_once  # for start-up time: who asks for help holds nothing

    lost: list[UserError] = []
    with holding(claim, end_at_once if own_process else lost.append):
        yield
    if lost:
        raise lost[0]


def _with_runtime(work: "Callable[[Runtime], int]", own_process: bool = True) -> int:
    with quick_imports(own_process):
        from .runtime import start  # torch, which --help does without

    with start(own_process) as runtime:
        status = work(runtime)
        if status:  # all ranks have the same, and a launcher ends the others when the first one leaves with it
            runtime.barrier()
        return status


def _as_rank(work: "Callable[[Job, Runtime], int]", job: Job) -> None:
    """One of several ranks, in a process made for it; a failure ends the process."""
    # For start-up time: only a rank needs them.
    from ..logs.records import told_output
    from .ending import end, end_failed, end_on_signals

    end_on_signals()
    prometheus.begin()
    with told_output():
        try:
            try:
                status = _with_runtime(lambda runtime: work(job, runtime))
            except Exception as error:
                end_failed(error)
        except SystemExit as done:
            end(done)
        if status:
            end(SystemExit(status))
