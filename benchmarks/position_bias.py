"""What `bias: true` is worth where the truth is known: logs of ten positions, written by policies that know more or less.

    python -m benchmarks.position_bias --seeds 8

A page shows ten items. Its policy puts those first that it thinks are good, and its opinion agrees with the truth to a known degree. A
user looks at position p with probability 1 / p, and clicks on what she looks at as its relevance says (the examination hypothesis; Craswell
et al., 2008). So a click's probability at a fixed position is known, and models are judged by how they order pairs of user and
item by it: by Spearman's rank correlation, and by Kendall's within pages. Arms differ in nothing but what they are told of the position, and
share the logs of a seed.
"""

import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import typer

import foundrank
from foundrank.dist.study.markdown_sections import write_section

from .jobs import Out, Work
from .machine import calibration

POSITIONS, USERS, ITEMS, TYPES, CATEGORIES = 10, 60, 100, 8, 12
POLICIES = {"none": 0.0, "weak": 0.4, "strong": 0.8}
"""Name -> how what it believes of an item correlates with the truth, as a logit."""
POSITION = {"kind": "categorical", "column": "position"}
ARMS: dict[str, dict[str, Any]] = {
    "without the position": {},
    "as any feature": {"position": POSITION},
    "bias: true": {"position": POSITION | {"bias": True}},
}
"""Name -> the context of the experiment."""
_TRAINING = {"epochs": 4, "batch_size": 512, "learning_rate": 0.006, "sparse_learning_rate": 0.1, "keep_best": False}
_MODEL = {"width": 16, "embedding_dim": 16, "domain_width": 32, "head": {"head": "mmoe", "experts": 2, "widths": [32]}}
_REPLICATES = 10_000
_EXPLORATION = 0.5  # deviation of what is added to a belief that has one of 1


def position_bias(
    seeds: Annotated[int, typer.Option(min=2, help="worlds, and trainings of each arm in each")] = 8,
    pages: Annotated[int, typer.Option(min=10, help="of training")] = 4000,
    work: Work = Path("runs/position_bias"),
    out: Out = Path("docs/results/results.md"),
) -> None:
    """Measures and writes the section."""
    found = []
    for seed in range(1, seeds + 1):
        for policy, agreement in POLICIES.items():
            for arm, context in ARMS.items():
                one = {"policy": policy, "arm": arm, "seed": seed} | measured(work, seed, agreement, pages, context)
                found.append(one)
                print(json.dumps(one), flush=True)
    write_section(out, "position bias", section(found, pages))


def measured(
    work: Path, seed: int, agreement: float, pages: int, context: Mapping[str, Any], **model: Any
) -> dict[str, float]:
    """Trains on a policy's logs and scores pages of another day, without their positions.

    Returns:
        ``spearman`` and ``kendall`` with the true probability of a click at a fixed position, and ``calibration``: the mean score
        by the mean of the clicks at the positions that were logged.
    """
    work.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=work)).absolute()  # of its own: readers keep files open
    random = np.random.default_rng(seed)
    truth = relevance(random)
    belief = agreement * truth / truth.std() + (1 - agreement**2) ** 0.5 * random.standard_normal(ITEMS)
    train, test = (logged(random, truth, belief, many) for many in (pages, 1500))
    pq.write_table(train, folder / "train.parquet")
    run = foundrank.train(experiment(folder, seed, context, model), folder / "run", processes=1)
    rows = test.drop_columns(["position"])
    if context and not context["position"].get("bias"):  # any other feature has to be there: nobody knows it
        rows = rows.append_column("position", pa.nulls(test.num_rows, pa.int64()))
    scores = foundrank.load(run).score(rows, domain="page")["score_click"].to_numpy()
    truth = test["truth"].to_numpy()
    shutil.rmtree(folder)
    by_page = [kendall(*pair) for pair in zip(scores.reshape(-1, POSITIONS), truth.reshape(-1, POSITIONS), strict=True)]
    return {
        "spearman": spearman(scores, truth),
        "kendall": float(np.mean(by_page)),
        "calibration": float(scores.mean() / test["click"].to_numpy().mean()),
    }


def relevance(random: np.random.Generator) -> np.ndarray:
    """``[USERS, ITEMS]`` logits of a click on what is looked at."""
    of_type, category = random.integers(TYPES, size=USERS), random.integers(CATEGORIES, size=ITEMS)
    taste = random.standard_normal((TYPES, CATEGORIES))
    return random.standard_normal(ITEMS) + taste[of_type][:, category]


def logged(random: np.random.Generator, of_pairs: np.ndarray, belief: np.ndarray, pages: int) -> pa.Table:
    """Pages of ten rows, best first as the policy believes, but for some exploration; ``truth`` is a click's probability at position 1."""
    user = random.integers(USERS, size=pages)
    items = random.random((pages, ITEMS)).argpartition(POSITIONS, axis=1)[:, :POSITIONS]
    logits = of_pairs[user[:, None], items]
    believed = belief[user[:, None], items] + _EXPLORATION * random.standard_normal(logits.shape)
    order = np.argsort(-believed, axis=1)
    items, truth = (np.take_along_axis(of, order, 1) for of in (items, 1 / (1 + np.exp(-logits))))
    position = np.broadcast_to(np.arange(1, POSITIONS + 1), items.shape)
    columns = {"user": np.repeat(user, POSITIONS), "item": items.ravel(), "position": position.ravel()}
    click = random.random(truth.shape) < truth / position
    return pa.table(columns | {"click": click.ravel().astype(np.int8), "truth": truth.ravel()})


def experiment(folder: Path, seed: int, context: Mapping[str, Any], model: Mapping[str, Any]) -> dict[str, Any]:
    """The experiment of an arm."""
    page = {"kind": "recommendation", "events": {"train": str(folder / "train.parquet")}}
    return {
        "name": "position_bias",
        "seed": seed,
        "entities": {"user": {"id": "user"}, "item": {"id": "item"}},
        "context": dict(context),
        "domains": {"page": page | {"tasks": {"click": {"label": "click"}}}},
        "model": _MODEL | model,
        "training": _TRAINING,
    }


def spearman(first: np.ndarray, second: np.ndarray) -> float:
    """Correlation of the ranks of two columns ``[N]``."""
    ranks = [np.argsort(np.argsort(values, kind="stable"), kind="stable") for values in (first, second)]
    return float(np.corrcoef(*ranks)[0, 1])


def kendall(first: np.ndarray, second: np.ndarray) -> float:
    """Pairs of ``[N]`` rows in the same order less those in the other, by all pairs."""
    signs = [np.sign(values[:, None] - values) for values in (first, second)]
    return float((signs[0] * signs[1]).sum() / (len(first) * (len(first) - 1)))


def section(found: list[dict[str, Any]], pages: int) -> str:
    """Markdown of the figures."""
    seeds = len({one["seed"] for one in found})
    lines = [
        "## Position bias\n",
        f"    python -m benchmarks.position_bias --seeds {seeds} --pages {pages}\n",
        f"Simulated logs of {pages:,} pages with {POSITIONS} positions; the policy's opinion correlates with the true logits by "
        f"{', '.join(f'{agreement:g} ({name})' for name, agreement in POLICIES.items())}. Rank correlation of scores with the true",
        "probability of a click at a fixed position, means over seeds; and how much more it is than without the position: paired over",
        f"seeds, 95 % bootstrap intervals. {calibration()}\n",
        "| policy | arm | Spearman | more | Kendall in a page | more | calibration |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    first = next(iter(ARMS))
    for policy in POLICIES:
        of_policy = [one for one in found if one["policy"] == policy]
        base = {one["seed"]: one for one in of_policy if one["arm"] == first}
        for arm in ARMS:
            mine = [one for one in of_policy if one["arm"] == arm]
            cells = []
            for metric in ("spearman", "kendall"):
                more = np.array([one[metric] - base[one["seed"]][metric] for one in mine])
                cells += [f"{np.mean([one[metric] for one in mine]):.4f}", interval(more) if arm != first else ""]
            ratio = np.mean([one["calibration"] for one in mine])
            lines.append(f"| {policy} | {arm} | {' | '.join(cells)} | {ratio:.3f} |")
    return "\n".join(lines)


def interval(differences: np.ndarray) -> str:
    """The mean of paired differences ``[S]``, and its 95 % bootstrap interval."""
    random = np.random.default_rng(0)
    means = random.choice(differences, (_REPLICATES, len(differences))).mean(1)
    low, high = np.percentile(means, [2.5, 97.5])
    return f"{differences.mean():+.4f} [{low:+.4f}, {high:+.4f}]"


if __name__ == "__main__":
    typer.run(position_bias)
