"""What list losses bring on Amazon's product search: bce alone, and each list loss beside it, into docs/results/results.md.

    python -m benchmarks.list_losses --source DATA/amazon_cellphones_search

Every arm is tuned with the first seed on validation, by NDCG@10: bce in the factor of both learning rates, of four, a list loss
in its weight, of three, at bce's factor. Then all arms are trained with further seeds. A random part of the lists is used, each whole. What is done
already is kept; run again, it goes on.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import typer
import yaml
from numpy.typing import NDArray

from foundrank.data.config.load import load_experiment
from foundrank.data.storage.globs import expand_glob
from foundrank.dist.compare.intervals import MEAN, TestRows, difference_intervals
from foundrank.dist.run.run_documents import StudyResult, Validation
from foundrank.dist.run.run_folder import VALIDATION, read_json
from foundrank.dist.study.arms import Arm, DataSet
from foundrank.dist.study.kept import PREDICTIONS, RESULT, folder, is_done
from foundrank.dist.study.markdown_sections import write_section
from foundrank.dist.study.runs import Task, run_all
from foundrank.model.kinds import KINDS
from foundrank.model.tasks.group_metrics import RANKING_K, ndcg_at_k
from foundrank.model.tasks.metrics import auc, calibration, logloss

from .jobs import Out, Source, run_foundrank

LISTS = {"train": 30_000, "validation": 4_000, "test": 8_000}
"""Of each domain, drawn at random."""
DATA = DataSet("amazon-search", ("amazon_cellphones_search",), "recommendation")
BCE = "bce"
LOSSES = {
    "softmax": "kind: softmax",
    "pairwise": "kind: pairwise",
    "pairwise, lambda weights": "kind: pairwise, lambda_weights: true",
    "jrc": "kind: jrc",
}
"""Name -> its settings beside the weight."""
WEIGHTS, RATES = (0.5, 2.0, 8.0), (1.0, 2.0, 4.0, 8.0)
_REPLICATES, _FIRST_SEED = 1000, 1


def list_losses(
    source: Source,
    seeds: Annotated[int, typer.Option(min=1, help="of each arm")] = 5,
    processes: Annotated[int, typer.Option(min=1, help="trainings at a time")] = 2,
    work: Path = Path("runs/list_losses"),
    out: Out = Path("docs/results/results.md"),
) -> None:
    """Trains, measures and writes the section."""
    experiment = _prepared(source, work / "data")
    tried = {rate: _task(experiment, work, BCE, rate, _FIRST_SEED) for rate in RATES}
    _train(list(tried.values()), processes, work)
    rate = max(tried, key=lambda rate: _validation(tried[rate]))
    with_losses = {
        (n, weight): _task(experiment, work, n, rate, _FIRST_SEED, weight) for n in LOSSES for weight in WEIGHTS
    }
    _train(list(with_losses.values()), processes, work)
    weights: dict[str, float | None] = {BCE: None}
    for name in LOSSES:
        weights[name] = max(WEIGHTS, key=lambda weight: _validation(with_losses[name, weight]))
    every = {
        name: [_task(experiment, work, name, rate, _FIRST_SEED + n, weight) for n in range(seeds)]
        for name, weight in weights.items()
    }
    _train([tasks[n] for n in range(seeds) for tasks in every.values()], processes, work)
    predictions = {name: [dict(np.load(task.folder / PREDICTIONS)) for task in tasks] for name, tasks in every.items()}
    write_section(out, "list losses", section(rate, weights, predictions))


def _train(tasks: list[Task], processes: int, work: Path) -> None:
    run_all(lambda: tasks, sum(not is_done(task.folder) for task in tasks), processes, work / "log")


def _task(experiment: Path, work: Path, name: str, rate: float, seed: int, weight: float | None = None) -> Task:
    arm = Arm(BCE)
    if weight is not None:
        loss = f"{{{LOSSES[name]}, weight: {weight}}}"
        of_domains = (f"domains.{domain}.tasks.purchase.list_loss={loss}" for domain in ("search", "recommendation"))
        arm = Arm(f"{name}, weight {weight:g}", tuple(of_domains))
    return Task(DATA, experiment, arm, seed, rate, folder(DATA, work, arm.name, seed, rate))


def _prepared(source: Path, data: Path) -> Path:
    """The imported experiment with some of the lists, its texts embedded."""
    path = data / "lists.yaml"
    if path.is_file():
        return path
    if not (data / "experiment.yaml").is_file():
        run_foundrank("import", DATA.name, source, data)
    run_foundrank("embed", data)
    raw = yaml.safe_load((data / "experiment.yaml").read_text(encoding="utf-8"))
    for name, domain in load_experiment(data, kinds=KINDS).domains.items():
        for split, most in LISTS.items():
            rows = pa.concat_tables([pq.read_table(file) for file in expand_glob(getattr(domain.events, split))])
            lists = np.unique(rows["list_id"].to_numpy())
            kept = np.random.default_rng(0).permutation(lists)[:most]
            part = "study-100%" if split == "train" else f"study-{split}"
            file = data / "events" / name / part / "part.parquet"
            file.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(rows.filter(pc.is_in(rows["list_id"], pa.array(kept))), file, row_group_size=10_000)
            raw["domains"][name]["events"][split] = f"events/{name}/{part}/part.parquet"
    path.write_text(yaml.safe_dump(raw, sort_keys=False), encoding="utf-8")
    return path


def _validation(task: Task) -> float:
    """NDCG@10 on validation, the mean over domains, of the checkpoint that was tested."""
    step = int(read_json(task.folder / RESULT, StudyResult)["checkpoint"].split("_")[-1])
    rows = read_json(task.folder / "run" / VALIDATION, Validation)["rows"]
    return float(np.mean([row[f"ndcg@{RANKING_K}"] for row in rows if row["step"] == step and row["slice"] == "all"]))


def section(rate: float, weights: dict[str, float | None], predictions: dict[str, list[dict[str, NDArray]]]) -> str:
    """Markdown of the figures."""
    first = predictions[BCE][0]
    seeds = len(predictions[BCE])
    lines = [
        "## amazon_search: list losses\n",
        f"    python -m benchmarks.list_losses --source ../shared/data/amazon_cellphones_search --seeds {seeds}\n",
        f"A list is a purchase and four negatives. {LISTS['train']:,} lists a domain for training, one epoch; {len(first['labels']):,} test rows of both",
        f"domains. Means over domains and {seeds} seeds; differences to bce with 95 % intervals, a bootstrap over users and seeds. Chosen on",
        f"validation by NDCG@10 with the first seed: for bce the factor of both learning rates, {rate:g} of {', '.join(f'{r:g}' for r in RATES)}; at that",
        f"factor the weight of each list loss, of {', '.join(f'{w:g}' for w in WEIGHTS)}.\n",
        "| | weight | NDCG@10 | difference | AUC | difference | log loss | calibration |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, mine in predictions.items():
        cells = [
            f"{_mean(mine, metric):.{digits}f}"
            for metric, digits in ((_ndcg, 4), (_auc, 4), (_logloss, 4), (_calibration, 3))
        ]
        gaps = ["", ""] if name == BCE else [_ndcg_gap(mine, predictions[BCE]), _auc_gap(mine, predictions[BCE])]
        weight = "" if weights[name] is None else f"{weights[name]:g}"
        lines.append(
            f"| {name} | {weight} | {cells[0]} | {gaps[0]} | {cells[1]} | {gaps[1]} | {cells[2]} | {cells[3]} |"
        )
    return "\n".join(lines)


def _of_domain(run: dict[str, NDArray], domain: int) -> tuple[NDArray, NDArray, NDArray, NDArray]:
    """Labels, scores, users and lists of a domain's labelled rows."""
    at = (run["domain"] == domain) & run["mask"][:, 0]
    return run["labels"][at, 0], run["probabilities"][at, 0], run["user"][at], run["list"][at]


def _mean(runs: Sequence[dict[str, NDArray]], metric: Callable[[NDArray, NDArray, NDArray], float]) -> float:
    """Of a metric of labels, scores and lists, over runs and domains."""
    found = []
    for run in runs:
        for domain in range(len(run["domains"])):
            labels, scores, _, lists = _of_domain(run, domain)
            found.append(metric(labels, scores, lists))
    return float(np.mean(found))


def _ndcg(labels: NDArray, scores: NDArray, lists: NDArray) -> float:
    return ndcg_at_k(labels, scores, lists)


def _auc(labels: NDArray, scores: NDArray, _lists: NDArray) -> float:
    return auc(labels, scores)


def _logloss(labels: NDArray, scores: NDArray, _lists: NDArray) -> float:
    return logloss(labels, scores)


def _calibration(labels: NDArray, scores: NDArray, _lists: NDArray) -> float:
    return calibration(labels, scores)


def _shown(gap: float, interval: tuple[float, float]) -> str:
    return f"{gap:+.4f} ({interval[0]:+.4f} to {interval[1]:+.4f})"


def _auc_gap(mine: Sequence[dict[str, NDArray]], theirs: Sequence[dict[str, NDArray]]) -> str:
    rows = {}
    for domain, name in enumerate(mine[0]["domains"]):
        labels, _, users, _ = _of_domain(mine[0], domain)
        scores = [np.stack([_of_domain(run, domain)[1] for run in runs]) for runs in (mine, theirs)]
        rows[str(name)] = TestRows(labels, users, np.zeros(len(labels), bool), *scores)
    interval = difference_intervals(rows, replicates=_REPLICATES)[MEAN]
    return _shown(_mean(mine, _auc) - _mean(theirs, _auc), interval)


def _ndcg_gap(mine: Sequence[dict[str, NDArray]], theirs: Sequence[dict[str, NDArray]]) -> str:
    """As `difference_intervals`: users are drawn, the same for both arms and domains, and each arm's seeds."""
    random = np.random.default_rng(0)
    users = np.unique(mine[0]["user"])
    drawn = random.multinomial(len(users), np.full(len(users), 1 / len(users)), size=_REPLICATES)
    gaps = []
    for domain in range(len(mine[0]["domains"])):
        sides = []
        for runs in (mine, theirs):
            picked = random.multinomial(len(runs), np.full(len(runs), 1 / len(runs)), size=_REPLICATES)
            of_seeds = []
            for run in runs:
                values, owners = _ndcg_of_lists(*_of_domain(run, domain))
                at = np.searchsorted(users, owners)
                sums, lists = (np.bincount(at, weights, len(users)) for weights in (values, np.ones(len(at))))
                of_seeds.append((drawn @ sums) / (drawn @ lists))
            sides.append((np.stack(of_seeds, 1) * picked).sum(1) / len(runs))
        gaps.append(sides[0] - sides[1])
    low, high = np.percentile(np.mean(gaps, axis=0), [2.5, 97.5])
    return _shown(_mean(mine, _ndcg) - _mean(theirs, _ndcg), (float(low), float(high)))


def _ndcg_of_lists(labels: NDArray, scores: NDArray, users: NDArray, lists: NDArray) -> tuple[NDArray, NDArray]:
    """NDCG@10 of each list with a positive, of at most ten rows, ties by their mean place's discounts; and its user."""
    order = np.argsort(lists, kind="stable")
    bounds = np.flatnonzero(np.diff(lists[order], prepend=lists[order[0]] - 1 if len(order) else 0))
    values: list[float] = []
    owners: list[Any] = []
    for rows in np.split(order, bounds[1:]):
        if labels[rows].any():
            values.append(ndcg_at_k(labels[rows], scores[rows], lists[rows]))
            owners.append(users[rows[0]])
    return np.array(values), np.array(owners)


if __name__ == "__main__":
    typer.run(list_losses)
