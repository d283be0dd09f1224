"""Gradient-boosted trees on an experiment's own features: one model per domain and task, the bar for foundrank to clear.

python -m benchmarks.baselines EXPERIMENT --seed 0 --out trees.json
"""

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier

from foundrank.data.batch.rate_counting import count_rates
from foundrank.data.batch.row_encoder import RowEncoder
from foundrank.data.batch.rows import Rows, concatenate
from foundrank.data.config.experiment import Experiment
from foundrank.data.config.load import load_experiment
from foundrank.data.config.sections.domains import SPLITS
from foundrank.data.counting.counting_pass import count
from foundrank.data.errors import UserError
from foundrank.data.events.check_events import check_events
from foundrank.data.events.event_files import EventFiles, read_group
from foundrank.data.rates.parts import Place
from foundrank.data.schema.column_needs import needed_columns
from foundrank.data.schema.layout import id_key
from foundrank.dist.evaluate.popularity import popularity
from foundrank.dist.evaluate.slices import slice_rows
from foundrank.dist.run.run_folder import write_json
from foundrank.model.kinds import KINDS
from foundrank.model.tasks.binary import Binary
from foundrank.model.tasks.group_metrics import apart
from foundrank.model.tasks.metrics import auc

from .target_encoding import make_folds
from .tree_features import ItemProfile, item_profile, matrix, shared_columns, target_columns

# (learning rate, leaves); the validation AUC chooses, on a sample of the training rows.
Setting = tuple[float, int]
GRID: tuple[Setting, ...] = ((0.05, 8), (0.05, 31), (0.1, 15), (0.1, 63))
GRID_ROWS = 40_000
MAX_TREES = 500
PATIENCE = 20
MAX_ROWS = 300_000

TRAIN, VALIDATION, TEST = range(3)


@dataclass(frozen=True)
class Predictions:
    """What the trees say of the labelled test rows of one domain and task.

    Attributes:
        at: ``[N]`` positions among the domain's test rows, as its files list them.
        labels: ``[N]`` 0 or 1.
        users: ``[N]`` key of each row's user.
        cold: ``[N]`` bool, whether the item was never seen in training.
        probabilities: ``[N]``.
    """

    at: NDArray[np.int64]
    labels: NDArray
    users: NDArray
    cold: NDArray[np.bool_]
    probabilities: NDArray[np.float64]


def run_trees(
    experiment: Experiment, seed: int, max_rows: int = MAX_ROWS, drop: str | None = None
) -> tuple[list[dict[str, Any]], dict[tuple[str, str], Predictions]]:
    """Fits and tests the trees of every domain and task.

    Args:
        experiment: the experiment; every domain needs a validation and a test split.
        seed: of folds, of the sample of training rows and of the trees.
        max_rows: training rows of a domain the trees see at most, sampled; target encodings always count all rows.
        drop: regular expression; columns it is found in are left out.

    Returns:
        Rows as in a run's ``evaluation.json``, with ``folds``, ``learning_rate``, ``leaves``, ``trees``,
        ``columns``, ``train_rows`` and ``validation_auc`` of the chosen trees; and (domain, task) -> predictions.

    Raises:
        UserError: a task that is not binary, bad data, a split that is missing, or text vectors that are.
    """
    for name, domain in experiment.domains.items():
        for task_name, task in domain.tasks.items():
            if not isinstance(task, Binary):
                raise UserError(
                    f"domains.{name}.tasks.{task_name}",
                    "is not of kind binary, and the trees of the comparison are classifiers",
                    "Compare an experiment without it.",
                )
    events = check_events(experiment)
    for name, of_domain in events.items():
        for split in SPLITS:
            if split not in of_domain:
                raise UserError(
                    f"domains.{name}.events", f"has no {split} split", "The comparison needs all three: add one."
                )
    encoder = encoder_of(experiment, {name: of_domain["train"] for name, of_domain in events.items()})
    rows = {
        name: [read_rows(encoder, name, of_domain[split], split == "train") for split in SPLITS]
        for name, of_domain in events.items()
    }
    profile = item_profile(experiment, encoder.layout, [splits[TRAIN] for splits in rows.values()])
    out: list[dict[str, Any]] = []
    predictions: dict[tuple[str, str], Predictions] = {}
    for name, splits in rows.items():
        started = time.perf_counter()
        results, predicted = _domain_trees(name, splits, encoder, profile, seed, max_rows, drop)
        predictions |= {(name, task): of_task for task, of_task in predicted.items()}
        seconds = time.perf_counter() - started
        scores = ", ".join(f"{r['task']} {r['auc']:.4f}" for r in results if r["slice"] == "all" and r["auc"])
        print(f"trees, seed {seed}, {name}: {scores or 'no AUC'} ({seconds:.0f} s)", flush=True)
        out += results
    return out, predictions


def encoder_of(experiment: Experiment, train: Mapping[str, EventFiles]) -> RowEncoder:
    """What makes rows of events: with the model's own rates, which are numbers like any other, where the experiment has them."""
    statistics = count(experiment, train)
    if statistics.rate_columns:
        statistics = replace(statistics, rates=count_rates(RowEncoder(experiment, statistics), train))
    return RowEncoder(experiment, statistics)


def read_rows(encoder: RowEncoder, domain: str, files: EventFiles, of_training: bool) -> Rows:
    """Every row of one split of a domain, with what metrics need; rates of training rows leave out their own labels."""
    columns = [need.name for need in needed_columns(encoder.experiment, domain)]
    parts = []
    for path, group in files.row_groups:
        place = Place(files.files.index(path), group) if of_training else None
        where = f"{path}: row group {group}"
        parts.append(encoder.encode(domain, read_group(path, group, columns), where, with_host=True, place=place))
    return concatenate(parts)


def _domain_trees(
    name: str,
    splits: list[Rows],
    encoder: RowEncoder,
    profile: ItemProfile,
    seed: int,
    max_rows: int,
    drop: str | None,
) -> tuple[list[dict[str, Any]], dict[str, Predictions]]:
    layout, domain = encoder.layout, encoder.experiment.domains[name]
    rows = concatenate(splits)
    split = np.repeat(np.arange(len(splits)), [len(part) for part in splits])
    groups = apart(rows.host["list"], rows.host["list_known"])  # without lists each row is one
    in_training = split == TRAIN
    folds = {kind: make_folds(groups, in_training, kind == "in order", seed) for kind in ("in order", "random")}

    train = np.flatnonzero(split == TRAIN)
    if len(train) > max_rows:
        train = np.sort(np.random.default_rng(seed).choice(train, max_rows, replace=False))
    kept = np.concatenate([train, np.flatnonzero(split != TRAIN)])
    held, split = rows.take(kept), split[kept]
    shared = shared_columns(held, split == TRAIN, encoder, profile)
    out, predictions = [], {}
    first_test = int(np.searchsorted(split, TEST))
    for task in domain.tasks:
        at = layout.tasks.index(task)
        labelled = [np.flatnonzero(held.label_mask[:, at] & (split == part)) for part in range(len(splits))]
        if not len(labelled[TEST]):
            continue
        tables = {}
        for kind, of_row in folds.items():
            targets = {n: values[kept] for n, values in target_columns(rows, layout, at, of_row).items()}
            columns = {n: c for n, c in (shared | targets).items() if not (drop and re.search(drop, n))}
            tables[kind], _ = matrix(columns, labelled[TRAIN])
        probabilities, chosen = fit_best(tables, held.labels[:, at], labelled, seed)
        test = held.take(labelled[TEST])
        item_counts = test.id_counts[:, layout.entities.index("item")]
        users = apart(test.host["user"], test.host["user_known"])
        predictions[task] = Predictions(
            labelled[TEST] - first_test, test.labels[:, at], users, item_counts == 0, probabilities
        )
        known = rows.label_mask[:, at] & in_training
        item_scores = popularity(rows.take(known).host["item"], rows.labels[known, at], layout.tables[id_key("item")])
        out += [
            row | chosen
            for row in slice_rows(
                name,
                task,
                domain.tasks[task],
                test.labels[:, at],
                probabilities,
                counts={entity: test.id_counts[:, place] for place, entity in enumerate(layout.entities)},
                user_groups=users,
                list_groups=test.host["list"] if domain.list_column else None,
                in_list=test.host["list_known"],
                oracle=test.host.get(f"oracle/{task}"),
                popularity=item_scores[test.host["item"]],
            )
        ]
    return out, predictions


def fit_best(
    tables: Mapping[str, NDArray[np.float32]], labels: NDArray, rows: Sequence[NDArray[np.int64]], seed: int
) -> tuple[NDArray[np.float64], dict[str, Any]]:
    """Predicts the test rows with the trees that are best on validation.

    On at most `GRID_ROWS` training rows, the validation AUC chooses first among the tables, then among the settings of
    `GRID`; what it chose is then fitted on all training rows. Validation loss stops the adding of trees.

    Args:
        tables: kind of folds -> ``[N, columns]``.
        labels: ``[N]`` 0 or 1.
        rows: positions of the training, validation and test rows.
        seed: of the trees.

    Returns:
        ``[test rows]`` probabilities and what was chosen. With one class in training, its rate for every row.
    """
    train, validation, test = rows
    info: dict[str, Any] = {"train_rows": len(train)}
    if len(np.unique(labels[train])) < 2:
        return np.full(len(test), labels[train].mean() if len(train) else 0.5), info

    def fit(kind: str, setting: Setting, at: NDArray) -> tuple[float, HistGradientBoostingClassifier]:
        trees = HistGradientBoostingClassifier(
            learning_rate=setting[0],
            max_leaf_nodes=setting[1],
            max_iter=MAX_TREES,
            l2_regularization=1.0,
            max_features=0.5,
            early_stopping=True,
            n_iter_no_change=PATIENCE,
            random_state=seed,
        )
        table = tables[kind]
        if len(np.unique(labels[validation])) < 2:  # nothing to stop by, nothing to choose by
            return 0.0, trees.set_params(early_stopping=False, max_iter=100).fit(table[at], labels[at])
        trees.fit(table[at], labels[at], X_val=table[validation], y_val=labels[validation])
        return auc(labels[validation], trees.predict_proba(table[validation])[:, 1]), trees

    sample = train
    if len(train) > GRID_ROWS:
        sample = np.random.default_rng(seed).choice(train, GRID_ROWS, replace=False)
    tried = {(kind, GRID[0]): fit(kind, GRID[0], sample) for kind in tables}
    kind = max(tried, key=lambda choice: tried[choice][0])[0]
    tried |= {(kind, setting): fit(kind, setting, sample) for setting in GRID[1:]}
    kind, setting = max(tried, key=lambda choice: tried[choice][0])
    score, trees = tried[kind, setting] if len(sample) == len(train) else fit(kind, setting, train)
    info |= {"folds": kind, "learning_rate": setting[0], "leaves": setting[1], "trees": trees.n_iter_}
    info |= {"columns": tables[kind].shape[1], "validation_auc": score}
    return trees.predict_proba(tables[kind][test])[:, 1], info


def main(
    experiment: Annotated[Path, typer.Argument(help="experiment YAML, or a folder with experiment.yaml in it")],
    seed: Annotated[int, typer.Option(min=0, help="of folds, samples and trees")] = 0,
    out: Annotated[Path | None, typer.Option(help="JSON file for the rows")] = None,
    max_rows: Annotated[int, typer.Option(min=1000, help="training rows per domain the trees see at most")] = MAX_ROWS,
    drop: Annotated[
        str | None, typer.Option(help="leave out columns in which this regular expression is found")
    ] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="override a field")] = None,
) -> None:
    """Test gradient-boosted trees on an experiment."""
    rows, _ = run_trees(load_experiment(experiment, set_ or [], kinds=KINDS), seed, max_rows, drop)
    for task in dict.fromkeys(row["task"] for row in rows):
        for part in ("all", "cold_items"):
            scores = [r["auc"] for r in rows if r["task"] == task and r["slice"] == part and r["auc"] is not None]
            if scores:
                print(f"{task}, {part}: mean AUC {np.mean(scores):.4f} over {len(scores)} domain(s)")
    if out is not None:
        write_json(out, {"rows": rows})


if __name__ == "__main__":
    typer.run(main)
