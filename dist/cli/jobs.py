"""The commands that run on several ranks: ``foundrank embed``, ``train``, ``evaluate`` and ``score``."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from ...data.config.load import load_experiment
from ...data.errors import UserError
from ...data.storage.mirror import mirrored, shown
from ..console import console
from ..ranks.environment import check_launcher, launched
from ..ranks.launch import TRY_AGAIN, check_gpus, default_processes, preload, store_file
from .options import LOCATION, Check, ExperimentPath, Overrides, Processes, RunPath, names


def embed(
    experiment: ExperimentPath,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="make the stores anew, for another encoder or template")
    ] = False,
    set_: Overrides = None,
    check: Check = False,
    processes: Processes = None,
) -> None:
    """Write the text vectors of every catalog with a frozen language model; run again, it embeds what is new."""
    _begin("foundrank.dist.embed.embed", check, processes)
    loaded = load_experiment(experiment, set_ or [])
    if check:
        from ..capacity.preflight import check_embedding

        return _passed(check_embedding(loaded))
    if _spawned(processes):
        return
    from ..embed.embed import embed as write
    from ..ranks.runtime import start

    with start() as runtime:
        write(loaded, runtime, rebuild=rebuild)
        if runtime.is_main:
            print(f"next: foundrank train {experiment}")


def train(
    experiment: ExperimentPath,
    run: Annotated[
        str | None,
        typer.Option("--run-dir", help="run folder  [default: runs/NAME]; an interrupted run goes on", **LOCATION),
    ] = None,
    set_: Overrides = None,
    profile: Annotated[
        bool,
        typer.Option("--profile", help="write a Chrome trace of a few steps, trace.rankR.json, into the run folder"),
    ] = False,
    check: Check = False,
    cluster: Annotated[
        str | None, typer.Option(help="with --check: the ranks it will have, as for `foundrank plan`  [default: here]")
    ] = None,
    processes: Processes = None,
) -> None:
    """Train on one or more processes into a run folder."""
    _begin("foundrank.dist.train.train", check, processes)
    loaded = load_experiment(experiment, set_ or [])
    run = run or str(Path("runs") / loaded.name)
    folder = mirrored(run, "work")
    if check:
        from ..capacity.cluster import read_cluster
        from ..capacity.preflight import check_training, ranks_here

        here = ranks_here(_count(processes)) if cluster is None else None
        return _passed(check_training(loaded, folder, here or read_cluster(cluster).ranks))
    if not launched():
        from ..train.prepare import prepare

        _count(processes)
        prepare(loaded, folder)  # in this process first: a mistake is told once, and no rank is started for it
    if _spawned(processes):
        return
    from ..ranks.preemption import Preemption
    from ..ranks.runtime import start
    from ..train.train import train as work

    with start() as runtime, Preemption(runtime) as preemption:
        stopped_after = work(loaded, folder, runtime, preemption, profile)
        if runtime.is_main and stopped_after is not None:
            print(f"stopped after step {stopped_after}, as asked to; the same command again goes on from there")
        elif runtime.is_main:
            from ..report.report import write_report  # matplotlib comes with it, which the first step need not wait for

            print(f"wrote {run}; report: {shown(write_report(folder))}\nnext: foundrank evaluate {run}")
        runtime.barrier()  # a launcher ends the other ranks when the first one leaves with such a status
    if stopped_after is not None:
        raise typer.Exit(TRY_AGAIN)


def evaluate(
    run: RunPath,
    split: Annotated[str, typer.Option(help="train, validation or test")] = "test",
    check: Check = False,
    processes: Processes = None,
) -> None:
    """Measure a run per domain, task and slice, and write its report."""
    _begin("foundrank.dist.evaluate.evaluate", check, processes)
    from ..run.checkpoint_folder import best
    from ..run.run_folder import check_open_to_write, id_types_of, open_experiment

    folder = mirrored(run, "read")
    experiment = open_experiment(folder)
    best(folder)
    check_open_to_write(folder)
    if not any(getattr(domain.events, split, None) for domain in experiment.domains.values()):
        raise UserError(
            run,
            f"no domain has a '{split}' split",
            "Choose train, validation or test, whichever the experiment's events name.",
        )
    if check:
        from ...data.events.check_events import check_events

        files = [
            splits[split]
            for splits in check_events(experiment, [split], held=id_types_of(folder)).values()
            if split in splits
        ]
        return _passed([f"{sum(of_domain.rows for of_domain in files):,} rows of the {split} split"])
    if _spawned(processes):
        return
    from ..evaluate.evaluate import evaluate_run
    from ..ranks.runtime import start
    from ..report.terminal_tables import print_evaluation, print_next_item

    with start() as runtime:
        result = evaluate_run(folder, split, runtime)
        if runtime.is_main:
            print_evaluation(result["rows"], console())
            if result.get("next_item"):
                print_next_item(result["next_item"], console())
            if result["skipped"]:
                print(f"{result['skipped']:,} bad rows are in no metric")
            measured = [*result["rows"], *result.get("next_item", [])]
            if overflowed := sum(row["overflowed"] for row in measured if row["slice"] == "all"):
                print(f"{overflowed:,} predictions came out as no number, of values too large: they are in no metric")
            from ..report.report import write_report

            print(f"report: {shown(write_report(folder))}")


def score(
    run: RunPath,
    source: Annotated[str, typer.Argument(help="Parquet file, folder or glob to score", **LOCATION)],
    out: Annotated[
        str, typer.Argument(help="folder for the scores; run again to finish an interrupted job", **LOCATION)
    ],
    domain: Annotated[
        str | None, typer.Option(help="domain of all rows  [default: the input's column `domain`]")
    ] = None,
    keep: Annotated[str, typer.Option(help="further input columns to pass through, comma-separated")] = "",
    like: Annotated[
        str,
        typer.Option(
            help="for a --domain the run has never seen: the domains whose scores are averaged, comma-separated"
        ),
    ] = "",
    bad_data: Annotated[
        Literal["fail", "skip"] | None, typer.Option(help="what bad rows mean  [default: the run's bad_data.policy]")
    ] = None,
    check: Check = False,
    processes: Processes = None,
) -> None:
    """Score Parquet into Parquet with a run's best checkpoint."""
    _begin("foundrank.dist.score.score", check, processes)
    from ..run.run_folder import open_experiment
    from ..score.work_list import ScoringJob, plan_parts
    from ..train.prepare import tell_set_aside

    folder = mirrored(run, "read")
    policy = open_experiment(folder).bad_data
    policy = policy.model_copy(update={"policy": bad_data or policy.policy})
    job = ScoringJob(folder, source, out, domain, names(keep), policy, names(like))
    if not launched():
        parts, aside = plan_parts(job, False)  # in this process first: a mistake is told once
        tell_set_aside("score", aside)
        if check:
            return _passed([f"{len(parts):,} part(s) to score into {out}"])
    if _spawned(processes):
        return
    from ..ranks.runtime import start
    from ..score.score import score as work

    with start() as runtime:
        rows, rate, bad, overflowed = work(job, runtime)
        if runtime.is_main:
            print(f"scored {rows:,} rows into {out}" + (f", {rate:,.0f} rows/s" if rate else ", all of them before"))
            if like:
                print(f"zero-shot: the run has not seen '{domain}'; these are mean logits over {', '.join(job.like)}")
            if bad:
                print(f"{bad:,} of them were bad: they have no score")
            if overflowed:
                print(
                    f"{overflowed:,} of those scored now hold values so large that no number comes out: they have no score"
                )


def recommend(
    run: RunPath,
    users: Annotated[
        str, typer.Argument(help="Parquet file, folder or glob with the users' ids and histories", **LOCATION)
    ],
    out: Annotated[
        str, typer.Argument(help="folder for the recommendations; run again to finish an interrupted job", **LOCATION)
    ],
    k: Annotated[int, typer.Option("--k", "-k", min=1, help="items per user")] = 100,
    repeat: Annotated[bool, typer.Option("--repeat", help="recommend past items too")] = False,
    approximate: Annotated[
        bool, typer.Option("--approximate", help="search through FAISS, if it is installed")
    ] = False,
    check: Check = False,
    processes: Processes = None,
) -> None:
    """Write the items that suit each user best, of all there are, with a run that has learned model.next_item."""
    _begin("foundrank.dist.score.recommend", check, processes)
    from ..score.recommend import RecommendJob, plan_recommendations
    from ..score.recommend import recommend as work

    job = RecommendJob(mirrored(run, "read"), users, out, k, repeat, approximate)
    if not launched():
        parts = plan_recommendations(job, False)  # in this process first: a mistake is told once
        if check:
            return _passed([f"{sum(part.rows for part in parts):,} users to recommend to, into {out}"])
    if _spawned(processes):
        return
    from ..ranks.runtime import start

    with start() as runtime:
        rows, recall, users_overflowed, items_overflowed = work(job, runtime)
        if runtime.is_main:
            found = "" if recall is None else f"; of an exact search's items, {recall:.1%} were found in a sample"
            print(f"wrote the best {k} items of {rows:,} users into {out}{found}")
            if users_overflowed or items_overflowed:
                print(
                    f"of {users_overflowed:,} users and {items_overflowed:,} items no number came out, as values are too large: these have no place"
                )


def _begin(module: str, check: bool, processes: int | None) -> None:
    check_launcher(own_store=store_file() is not None)
    if not check:
        preload(module, processes)


def _passed(told: list[str]) -> None:
    print("\n".join([*told, "checks passed"]))


def _count(processes: int | None) -> int:
    """How many ranks were asked for, or are usual here.

    Raises:
        UserError: more than there are GPUs.
    """
    count = processes or default_processes()
    check_gpus(count)
    return count


def _spawned(processes: int | None) -> bool:
    """Runs this very command on several ranks, if it should; True when that has been done."""
    if launched():
        return False
    from ..ranks.local_ranks import spawn
    from .main import run_rank

    count = _count(processes)
    if count == 1:
        return False
    code = spawn(run_rank, sys.argv[1:], count)
    if code:
        raise typer.Exit(code)
    return True
