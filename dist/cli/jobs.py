"""The commands whose work ranks do: ``foundrank embed``, ``train``, ``evaluate``, ``score`` and ``recommend``.

Each resolves its job in one process; the function that follows it is what every rank does with that job.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

import typer

from ...data.storage.mirror import mirrored, shown
from ..console import console
from ..ranks.environment import check_launcher
from ..ranks.job import count_of, on_ranks
from ..ranks.launch import TRY_AGAIN, preload, store_file
from .options import LOCATION, Check, ExperimentPath, Overrides, Processes, RunPath, loaded, names

# Imported where it is used, for start-up time: --help and mistakes are answered before torch and TorchRec are there.
if TYPE_CHECKING:
    from ...data.config.experiment import Experiment
    from ..evaluate.prepare import EvaluationJob
    from ..ranks.runtime import Runtime
    from ..score.recommend import RecommendJob
    from ..score.scoring_input import ScoringJob
    from ..score.work_list import Part
    from ..train.prepare import TrainingJob


class _Embedding(NamedTuple):
    experiment: "Experiment"
    named: str
    rebuild: bool


def embed(
    experiment: ExperimentPath,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="build the stores again, for another encoder or template")
    ] = False,
    set_: Overrides = None,
    check: Check = False,
    processes: Processes = None,
) -> None:
    """Embed the texts of every catalog with a frozen language model; run again, it embeds only new texts."""
    _begin("embed.embed", check, processes)

    def resolve() -> _Embedding:
        return _Embedding(loaded(experiment, set_), experiment, rebuild)

    if check:
        from ..capacity.preflight import check_embedding

        return _passed(check_embedding(resolve().experiment))
    _end(on_ranks(resolve, _embed, processes))


def _embed(job: _Embedding, runtime: "Runtime") -> int:
    from ..embed.embed import embed as work

    work(job.experiment, runtime, rebuild=job.rebuild)
    if runtime.is_main:
        print(f"next: foundrank train {job.named}")
    return 0


def train(
    experiment: ExperimentPath,
    run: Annotated[
        str | None,
        typer.Option("--run-dir", help="run folder; an interrupted run resumes  [default: runs/NAME]", **LOCATION),
    ] = None,
    set_: Overrides = None,
    profile: Annotated[
        bool,
        typer.Option("--profile", help="write a Chrome trace of a few steps, trace.rankR.json, into the run folder"),
    ] = False,
    check: Check = False,
    cluster: Annotated[
        str | None,
        typer.Option(help="with --check: the cluster it will run on, as for `foundrank plan`  [default: this machine]"),
    ] = None,
    processes: Processes = None,
) -> None:
    """Train on one or more processes into a run folder."""
    _begin("train.train", check, processes)
    if check:
        from ..capacity.cluster import read_cluster
        from ..capacity.preflight import check_training, ranks_here

        wanted = loaded(experiment, set_)
        here = ranks_here(count_of(processes)) if cluster is None else None
        folder = mirrored(run or _usual(wanted), "work")
        return _passed(check_training(wanted, folder, here or read_cluster(cluster).ranks))

    def resolve() -> "TrainingJob":
        wanted = loaded(experiment, set_)
        from ..train.prepare import prepare  # TorchRec, which a mistake in the file need not wait for

        return prepare(wanted, run or _usual(wanted), profile)

    _end(on_ranks(resolve, _train, processes))


def _usual(experiment: "Experiment") -> str:
    return str(Path("runs") / experiment.name)


def _train(job: "TrainingJob", runtime: "Runtime") -> int:
    from ..ranks.preemption import Preemption
    from ..train.train import train as work

    with Preemption(runtime) as preemption:
        stopped_after = work(job, runtime, preemption)
        if runtime.is_main and stopped_after is not None:
            print(f"stopped after step {stopped_after}, as requested; run the same command again to resume")
        elif runtime.is_main:
            from ..report.report import write_report  # matplotlib comes with it, which the first step need not wait for

            print(f"wrote {job.run}; report: {shown(write_report(job.folder))}\nnext: foundrank evaluate {job.run}")
        runtime.barrier()  # a launcher ends the other ranks when the first one leaves with such a status
    return 0 if stopped_after is None else TRY_AGAIN


def evaluate(
    run: RunPath,
    split: Annotated[str, typer.Option(help="train, validation or test")] = "test",
    check: Check = False,
    processes: Processes = None,
) -> None:
    """Measure a run per domain, task and slice, and write its report."""
    _begin("evaluate.evaluate", check, processes)

    def resolve() -> "EvaluationJob":
        from ..evaluate.prepare import prepare_evaluation

        return prepare_evaluation(run, split)

    if check:
        rows = sum(of_domain[split].rows for of_domain in resolve().events.values() if split in of_domain)
        return _passed([f"{rows:,} rows of the {split} split"])
    _end(on_ranks(resolve, _evaluate, processes))


def _evaluate(job: "EvaluationJob", runtime: "Runtime") -> int:
    from ..evaluate.evaluate import evaluate_run

    result = evaluate_run(job, runtime)
    if runtime.is_main:
        from ..evaluate.measures import measured_by
        from ..report.report import write_report
        from ..report.terminal_tables import print_evaluation, print_next_item

        print_evaluation(result["rows"], measured_by(result), console())
        if result.get("next_item"):
            print_next_item(result["next_item"], console())
        if result["skipped"]:
            print(f"{result['skipped']:,} bad rows are in no metric")
        measured = [*result["rows"], *result.get("next_item", [])]
        if overflowed := sum(row["overflowed"] for row in measured if row["slice"] == "all"):
            print(f"{overflowed:,} predictions came out as no number, of values too large: they are in no metric")
        print(f"report: {shown(write_report(job.folder))}")
    return 0


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
        Literal["fail", "skip"] | None,
        typer.Option(help="what to do about bad rows  [default: the run's bad_data.policy]"),
    ] = None,
    check: Check = False,
    processes: Processes = None,
) -> None:
    """Score Parquet files with a run's best checkpoint."""
    _begin("score.score", check, processes)

    def resolve() -> "tuple[ScoringJob, list[Part]]":
        from ..run.run_folder import open_experiment
        from ..score.scoring_input import ScoringJob
        from ..score.work_list import plan_parts
        from ..train.prepare import tell_set_aside

        policy = open_experiment(mirrored(run, "read")).bad_data
        policy = policy.model_copy(update={"policy": bad_data or policy.policy})
        job = ScoringJob(run, source, out, domain, names(keep), policy, names(like))
        parts, aside = plan_parts(job, claims=not check)
        tell_set_aside("score", aside)
        return job, parts

    if check:
        return _passed([f"{len(resolve()[1]):,} part(s) to score into {out}"])
    _end(on_ranks(resolve, _score, processes))


def _score(planned: "tuple[ScoringJob, list[Part]]", runtime: "Runtime") -> int:
    from ..score.score import score as work

    job, parts = planned
    rows, rate, bad, overflowed = work(job, parts, runtime)
    if runtime.is_main:
        print(f"scored {rows:,} rows into {job.out}" + (f", {rate:,.0f} rows/s" if rate else ", all of them before"))
        if job.like:
            print(f"zero-shot: the run has not seen '{job.domain}'; these are mean logits over {', '.join(job.like)}")
        if bad:
            print(f"{bad:,} of them were bad: they have no score")
        if overflowed:
            print(
                f"{overflowed:,} of those scored now hold values so large that no number comes out: they have no score"
            )
    return 0


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
    approximate: Annotated[bool, typer.Option("--approximate", help="search with FAISS, if it is installed")] = False,
    check: Check = False,
    processes: Processes = None,
) -> None:
    """Recommend the best items of the whole catalog to each user, with a run trained on model.next_item."""
    _begin("score.recommend", check, processes)

    def resolve() -> "tuple[RecommendJob, list[Part]]":
        from ..score.recommend import RecommendJob, plan_recommendations

        job = RecommendJob(run, users, out, k, repeat, approximate)
        return job, plan_recommendations(job, claims=not check)

    if check:
        return _passed([f"{sum(part.rows for part in resolve()[1]):,} users to recommend to, into {out}"])
    _end(on_ranks(resolve, _recommend, processes))


def _recommend(planned: "tuple[RecommendJob, list[Part]]", runtime: "Runtime") -> int:
    from ..score.recommend import recommend as work

    job, parts = planned
    rows, recall, users_overflowed, items_overflowed = work(job, parts, runtime)
    if runtime.is_main:
        found = "" if recall is None else f"; of an exact search's items, {recall:.1%} were found in a sample"
        print(f"wrote the best {job.k} items of {rows:,} users into {job.out}{found}")
        if users_overflowed or items_overflowed:
            print(
                f"of {users_overflowed:,} users and {items_overflowed:,} items no number came out, as values are too large: these have no place"
            )
    return 0


def _begin(module: str, check: bool, processes: int | None) -> None:
    check_launcher(own_store=store_file() is not None)
    if not check:
        preload(["foundrank.dist.cli.quiet", "foundrank.dist.cli.jobs", f"foundrank.dist.{module}"], processes)


def _passed(told: list[str]) -> None:
    print("\n".join([*told, "checks passed"]))


def _end(status: int) -> None:
    if status:
        raise typer.Exit(status)
