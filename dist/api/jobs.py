"""What commands do, as functions: simulating, embedding, tokenizing, training, evaluating and aligning.

They run in this process, alone or as one of those that torchrun has started a script as, or in processes of their own.
Nothing they set for a process outlasts them.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from foundrank.data.config.experiment import Experiment
from foundrank.data.config.kinds import Kinds, kinds_of
from foundrank.data.errors import UserError
from foundrank.data.storage.file_systems import Location
from foundrank.data.storage.mirror import mirrored
from foundrank.dist.align.prepare import prepare_alignment
from foundrank.dist.align.request import AlignJob, Grouping
from foundrank.dist.align.reward_spec import reward_spec
from foundrank.dist.evaluate.evaluate import evaluate_run
from foundrank.dist.evaluate.prepare import EvaluationJob, prepare_evaluation
from foundrank.dist.lease.lease import BESIDE_TRAINING, Claim
from foundrank.dist.logs import prometheus
from foundrank.dist.ranks.ending import status_of
from foundrank.dist.ranks.job import on_ranks
from foundrank.dist.ranks.preemption import Preemption
from foundrank.dist.ranks.process_state import process_kept
from foundrank.dist.ranks.runtime import Runtime
from foundrank.dist.ranks.statuses import DONE, INTERRUPTED, TRY_AGAIN
from foundrank.dist.report.report import write_report
from foundrank.dist.retrieval.protocol import PLACES, Protocol
from foundrank.dist.retrieval.slate import slate_of
from foundrank.dist.run.kept_checkpoints import complete, members
from foundrank.dist.run.run_documents import Alignment, Evaluation
from foundrank.dist.run.run_folder import ALIGNMENT, EVALUATION, read_json
from foundrank.dist.train.prepare import TrainingJob, prepare
from foundrank.dist.train.train import train as train_on_ranks
from foundrank.experiments import assignments_of, load_experiment
from foundrank.model.kinds import KINDS
from foundrank.runs import Run, current_at, run_at

_Job = TypeVar("_Job")


def simulate(
    out: str | Path, rows: int | None = None, seed: int = 2026, world: str | None = None, days: int | None = None
) -> Path:
    """Simulates logs whose truth is known.

    Args:
        out: a new folder for events, catalogs and experiment.yaml.
        rows: events, of all domains together; 600,000 of a platform, 200,000 of a market and 300,000 of days when absent.
        seed: of everything random.
        world: ``platform``: seven search and recommendation domains with texts, cold items and clicks; ``market``: small, with
            labels of every kind; ``days``: a feed in which items and users come and go and tastes move. When absent, ``days``
            where their number is given, and else ``platform``.
        days: how many, at least 4, of the world ``days`` alone; 30 when absent.

    Returns:
        The experiment file.

    Raises:
        UserError: no such world, too few rows or days, days of another world, or something in the folder already.
    """
    from foundrank.data.simulation.worlds import simulate as write  # for start-up time: nothing else here needs it

    return write(Path(out), rows, seed, world, days)


class _Embedding(NamedTuple):
    experiment: Experiment
    rebuild: bool


def embed(
    experiment: Experiment | str | Path | Mapping[str, Any],
    *,
    rebuild: bool = False,
    kinds: Kinds = KINDS,
    processes: int | None = None,
) -> None:
    """Writes the vectors of the contents of every catalog with frozen encoders; again, it embeds what is new.

    Args:
        experiment: an experiment, its file or its dict.
        rebuild: makes the stores anew, for another encoder or template.
        kinds: what a file or a dict may choose from.
        processes: how many ranks; one per GPU, or one, by default.

    Raises:
        UserError: a catalog, a template or the encoder is unusable, or a store holds vectors of another kind.
    """
    loaded = _loaded(experiment, kinds)
    _on_ranks(lambda: _Embedding(loaded, rebuild), _embed, processes, Claim(loaded.text.store, "embed"))


def _embed(job: _Embedding, runtime: Runtime) -> int:
    from foundrank.dist.embed.embed import embed as write  # safetensors and tokenizers, which only this needs

    write(job.experiment, runtime, rebuild=job.rebuild)
    return DONE


class _Tokenizing(NamedTuple):
    experiment: Experiment
    rebuild: bool


def tokenize(
    experiment: Experiment | str | Path | Mapping[str, Any],
    *,
    rebuild: bool = False,
    kinds: Kinds = KINDS,
    processes: int | None = None,
) -> None:
    """Gives every item of the catalog its codes, semantic ids; again, it gives codes to what is new.

    Args:
        experiment: an experiment, its file or its dict, with a content of items that is codes.
        rebuild: makes all codes anew; runs trained with the old ones refuse the new.
        kinds: what a file or a dict may choose from.
        processes: how many ranks; one per GPU, or one, by default.

    Raises:
        UserError: there are no codes in the experiment, what they are made of is missing, or they were made in another way.
    """
    loaded = _loaded(experiment, kinds)
    _on_ranks(lambda: _Tokenizing(loaded, rebuild), _tokenize, processes, Claim(loaded.text.store, "tokenize"))


def _tokenize(job: _Tokenizing, runtime: Runtime) -> int:
    from foundrank.dist.tokenize.tokenize import tokenize as write  # safetensors, which only this needs

    write(job.experiment, runtime, job.rebuild)
    return DONE


def train(
    experiment: Experiment | str | Path | Mapping[str, Any],
    run_dir: Location | None = None,
    *,
    kinds: Kinds = KINDS,
    processes: int | None = None,
    profile: bool = False,
) -> Run:
    """Trains an experiment into a run folder; an interrupted run goes on.

    Args:
        experiment: an experiment, its file or its dict.
        run_dir: the run folder, or its URI; ``runs/NAME`` by default.
        kinds: what a file or a dict may choose from, e.g. ``KINDS.with_(heads={"mine": Mine})``.
        processes: how many ranks; one per GPU, or one, by default. More than one are new processes: in a script the call
            stands under ``if __name__ == "__main__":``, and what kinds of your own are classes of is a module.
        profile: writes a Chrome trace of a few steps, ``trace.rankR.json``, into the run folder.

    Returns:
        The run.

    Raises:
        UserError: bad data, a run folder that holds something else, or tables that do not fit.
    """
    loaded = _loaded(experiment, kinds)
    run = run_at(run_dir or Path("runs") / loaded.name, kinds_of(loaded))
    claim = Claim(run.location, "train")
    status = _on_ranks(lambda: prepare(loaded, run.location, profile), _train, processes, claim, goes_on=True)
    return (
        replace(run, stopped_after=max(complete(members(mirrored(run.location, "work"))[-1])))
        if status == TRY_AGAIN
        else run
    )


def _train(job: TrainingJob, runtime: Runtime) -> int:
    with Preemption(runtime) as preemption:
        stopped_after = train_on_ranks(job, runtime, preemption)
        if runtime.is_main and stopped_after is None:
            write_report(job.folder)
        runtime.barrier()
    return DONE if stopped_after is None else TRY_AGAIN


def evaluate(
    run: Run | Location,
    split: str = "test",
    *,
    repeat: bool | None = None,
    negatives: int = 0,
    domain: str | None = None,
    width: int | None = None,
    diversity: str | None = None,
    diversity_weight: float | None = None,
    pool: int | None = None,
    alike_by: str | None = None,
    predictions: bool = False,
    kinds: Kinds | None = None,
    processes: int | None = None,
) -> dict[str, Any]:
    """Measures a run per domain, task and slice, and writes its report.

    Args:
        run: a run, its folder or its URI, or a folder that one was promoted to.
        split: ``train``, ``validation`` or ``test``.
        repeat: whether the next item may be a past one; None: where the run's ``model.next_item.repeat`` says so.
        negatives: how many items, drawn at random, the next one is ranked among; 0: all.
        domain: measured alone, the next item among its items.
        width: how many leading numbers of their vectors items are found by, one of ``model.next_item.widths``; None: all.
        diversity: ``mmr`` or ``dpp``: how the best items are put into lists, as of `Scorer.recommend`.
        diversity_weight: with ``diversity``, from 0, relevance alone, to 1, diversity alone.
        pool: with ``diversity``, how many of the best items a list of 20 is chosen from; 100 by default.
        alike_by: content of items that says how alike they are, for slates and for the distance in lists; None: what the run looks for items by.
        predictions: keeps what the run says of each row, in its folder.
        kinds: what its experiment could choose from, where that is more than foundrank has.
        processes: how many ranks; one per GPU, or one, by default.

    Returns:
        What ``evaluation.json`` holds: ``rows``, a dict of metrics for each domain, task and slice, and what else was measured.

    Raises:
        UserError: no run, one without a checkpoint or that cannot be written to, no such split, or bad events.
    """
    run = current_at(run, kinds)
    claim = Claim(run.location, "evaluate", BESIDE_TRAINING)
    slate = slate_of(diversity, diversity_weight, pool, PLACES)
    protocol = Protocol(repeat, negatives, domain, width, slate, alike_by)

    def resolve() -> EvaluationJob:
        return prepare_evaluation(run.location, split, run.kinds, keeps=predictions, protocol=protocol)

    _on_ranks(resolve, _evaluate, processes, claim)
    return read_json(run.folder / EVALUATION, Evaluation)


def _evaluate(job: EvaluationJob, runtime: Runtime) -> int:
    evaluate_run(job, runtime)
    if runtime.is_main:
        write_report(job.folder)
    runtime.barrier()
    return DONE


def align(
    run: Run | Location,
    out: str | Path,
    reward: Run | Location,
    *,
    weights: Mapping[str, float] | None = None,
    candidates: int = 16,
    pool: int = 100,
    temperature: float = 1.0,
    split: str = "test",
    changes: Mapping[str, Any] | None = None,
    processes: int | None = None,
) -> dict[str, Any]:
    """Preference alignment: fine-tunes a run that finds items to prefer those of its candidates that a reward says are better; it goes on.

    Args:
        run: the generator: a run, its folder or its URI, or a folder that one was promoted to.
        out: folder of the aligned run.
        reward: a run, as ``run`` is, ``hits``, ``noise``, or a Parquet file of users, items and rewards.
        weights: of the tasks of a run that rewards; None: 1 each.
        candidates: of each row, drawn from so many of the best, its ``pool``, after their scores are divided by ``temperature``.
        split: what is measured before and after, ``validation`` or ``test``.
        changes: to the experiment of the fine-tuning, as of `load_experiment`.
        processes: how many ranks; one per GPU, or one, by default.

    Returns:
        What ``alignment.json`` holds: ``measures``, a dict for each domain and measure, with the ends of the difference's 95 % interval.

    Raises:
        UserError: no run, one that finds no items, an unusable reward, or a folder that holds something else.
    """
    generator, told = current_at(run, None), ",".join(f"{task}={weight}" for task, weight in (weights or {}).items())
    spec, grouping = reward_spec(os.fspath(reward), told), Grouping(candidates, pool, temperature)
    overrides = list(assignments_of(changes or {}))

    def resolve() -> AlignJob:
        return prepare_alignment(generator.location, str(out), spec, grouping, split, overrides)

    _on_ranks(resolve, _align, processes, Claim(out, "align"))
    return read_json(Path(out) / ALIGNMENT, Alignment)


def _align(job: AlignJob, runtime: Runtime) -> int:
    from foundrank.dist.align.align import align as work  # what finds and scores, which only this needs

    done = work(job, runtime)
    if runtime.is_main and not isinstance(done, int):
        write_report(Path(job.out))
    runtime.barrier()
    return TRY_AGAIN if isinstance(done, int) else DONE


def _loaded(experiment: Experiment | str | Path | Mapping[str, Any], kinds: Kinds) -> Experiment:
    return experiment if isinstance(experiment, Experiment) else load_experiment(experiment, kinds=kinds)


def _on_ranks(
    resolve: Callable[[], _Job],
    work: Callable[[_Job, Runtime], int],
    processes: int | None,
    claim: Claim,
    goes_on: bool = False,
) -> int:
    """``goes_on`` says that the caller tells what was asked to stop, and left something to show."""
    try:
        with process_kept():
            status = on_ranks(resolve, work, processes, own_process=False, holds=lambda: claim)
    except Exception as error:
        prometheus.ended(status_of(error), failed=True)
        raise
    prometheus.ended(status, failed=status not in (DONE, TRY_AGAIN, INTERRUPTED))
    if status == INTERRUPTED:
        raise KeyboardInterrupt
    if status == TRY_AGAIN and not goes_on:
        raise UserError("the job", "was asked to stop before it was done", "Call the function again; it goes on.")
    if status not in (DONE, TRY_AGAIN):
        raise UserError("a rank", f"ended with status {status}", "What it said of it is above, on standard error.")
    return status
