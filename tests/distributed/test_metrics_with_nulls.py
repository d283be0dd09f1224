"""Every metric against scikit-learn or a few plain lines, on events with nulls and bad rows everywhere."""

import json
import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import log_loss, ndcg_score, roc_auc_score

from foundrank.data.config.experiment import Experiment
from foundrank.data.config.load import load_experiment
from foundrank.data.events.check_events import check_events
from foundrank.dist.evaluate import evaluate as evaluating
from foundrank.dist.evaluate.evaluate import evaluate, evaluate_run
from foundrank.dist.evaluate.measured import measured_rows
from foundrank.dist.evaluate.next_item_metrics import next_item_rows
from foundrank.dist.evaluate.popularity import popularity_counts
from foundrank.dist.evaluate.predict import predict
from foundrank.dist.evaluate.prediction_file import alike, predictions_file, read_told
from foundrank.dist.evaluate.predictions import predictions
from foundrank.dist.evaluate.prepare import prepare_evaluation
from foundrank.dist.ranks.runtime import Runtime
from foundrank.dist.retrieval.retrieval import Retriever
from foundrank.dist.sharding.shard import shard
from foundrank.model.kinds import KINDS

from .harness import run_ranks
from .rank_work import make_encoder, train_run

ITEMS = 12
Row = dict[str, Any]


def events(rows: int, seed: int) -> pa.Table:
    """Rows in which anything may be missing, item and list 0 among what is there; and an age that is bad in some."""
    random = np.random.default_rng(seed)

    def with_nulls(values: np.ndarray, share: float) -> pa.Array:
        return pa.array(values, mask=random.random(rows) < share)

    past = [
        None if random.random() < 0.2 else [int(i) for i in random.integers(0, ITEMS, random.integers(0, 5))]
        for _ in range(rows)
    ]
    clicked = random.integers(0, 2, rows)
    age = random.normal(40, 10, rows)
    # What is unclicked and bad, or has no item and was clicked, is what would be counted wrongly.
    age[(clicked == 0) & (random.random(rows) < 0.2)] = math.nan
    return pa.table(
        {
            "user": with_nulls(random.integers(0, 9, rows), 0.3),
            "item": with_nulls(random.integers(0, ITEMS, rows), 0.3),
            "page": with_nulls(np.arange(rows) // 6, 0.3),
            "history": pa.array(past, pa.list_(pa.int64())),
            "clicked": with_nulls(clicked, 0.2),
            "bought": with_nulls(random.integers(0, 2, rows), 0.6),
            "truth": with_nulls(random.random(rows), 0.01),
            "age": with_nulls(age, 0.1),
        }
    )


@pytest.fixture
def experiment(tmp_path: Path) -> Experiment:
    for split, rows, seed in (("train", 600, 1), ("test", 300, 2)):
        pq.write_table(events(rows, seed), tmp_path / f"{split}.parquet", row_group_size=70)
    # Items 10 and later are not in the catalog, 90 and later in no event.
    listed = [*range(10), 90, 91]
    pq.write_table(pa.table({"item": listed, "kind": [i % 4 for i in listed]}), tmp_path / "items.parquet")
    raw = {
        "name": "nulls",
        "entities": {
            "user": {"id": "user", "history": {"column": "history"}},
            "item": {
                "id": "item",
                "catalog": {"path": "items.parquet", "key": "item"},
                "features": {"kind": {"kind": "categorical"}},
            },
        },
        "context": {"age": {"kind": "dense"}},
        "domains": {
            "home": {
                "kind": "recommendation",
                "events": {split: f"{split}.parquet" for split in ("train", "test")},
                "tasks": {"click": {"label": "clicked", "probability": "truth"}, "buy": {"label": "bought"}},
                "list_column": "page",
            }
        },
        "model": {
            "width": 8, "embedding_dim": 8, "expert_widths": [8], "tower_widths": [4], "experts": 2, "domain_width": 8,
            "history": {"encoder": "sasrec", "layers": 1, "heads": 1, "features": ["kind"]}, "next_item": {"negatives": 4},
        },
        "training": {"batch_size": 64},
        "bad_data": {"policy": "skip", "max_share": 0.5},
    }  # fmt: skip
    (tmp_path / "experiment.yaml").write_text(json.dumps(raw))
    return load_experiment(tmp_path, kinds=KINDS)


def measured(runtime: Runtime, experiment: Experiment) -> dict[str, Any]:
    encoder = make_encoder(experiment)
    sharded = shard(encoder.layout, experiment, runtime)
    sharded.eval()
    found = check_events(experiment)
    files = {name: splits["test"] for name, splits in found.items()}
    popularity = popularity_counts(experiment, encoder, found, runtime)
    columns, _, _ = predict(sharded, encoder, files, runtime)
    out: dict[str, Any] = {"predicted": columns["scores"], "labels": columns["labels"]}
    out["rows"], _, out["skipped"] = evaluate(sharded, encoder, files, runtime, popularity)
    out["next_item"] = next_item_rows(sharded, encoder, files, runtime)
    retriever = Retriever(sharded, encoder, runtime)
    products = retriever.ranking.scores
    users = [out.user for out, _ in predictions(sharded, encoder, files, runtime)]
    out["scores"] = np.concatenate([products.of(user, products.of_shared(user)).numpy() for user in users])
    out["items"] = retriever.items.keys.astype(np.int64).tolist()
    return out


def is_bad(row: Row) -> bool:
    return row["age"] is not None and math.isnan(row["age"])


def auc(rows: list[Row], score: str, label: str) -> float | None:
    labels = [row[label] for row in rows]
    if len(set(labels)) < 2 or any(row[score] is None for row in rows):
        return None
    return float(roc_auc_score(labels, [row[score] for row in rows]))


def grouped(rows: list[Row], name: str) -> list[list[Row]]:
    """The rows of each user or list there is."""
    return [[row for row in rows if row[name] == one] for one in {row[name] for row in rows} - {None}]


def right_metrics(rows: list[Row], score: str, label: str) -> dict[str, Any]:
    labels, scores = [row[label] for row in rows], np.array([row[score] for row in rows], np.float64)
    users = [(len(g), auc(g, score, label)) for g in grouped(rows, "user")]
    users = [(n, value) for n, value in users if value is not None]
    lists = [g for g in grouped(rows, "page") if any(row[label] for row in g)]
    ndcg = [  # scikit-learn wants two documents: a last one worth nothing changes no value
        ndcg_score([[*(row[label] for row in g), 0]], [[*(row[score] for row in g), -1]], k=10) for g in lists
    ]
    rate = np.mean(labels)
    return {
        "rows": len(rows),
        "positives": sum(labels),
        "auc": auc(rows, score, label),
        "gauc": sum(n * value for n, value in users) / sum(n for n, _ in users) if users else None,
        "uauc": np.mean([value for _, value in users]) if users else None,
        "logloss": log_loss(labels, scores, labels=[0, 1]),
        "ne": log_loss(labels, scores, labels=[0, 1]) / log_loss(labels, np.full(len(labels), rate), labels=[0, 1])
        if 0 < rate < 1
        else None,
        "calibration": scores.mean() / rate if rate else None,
        "ndcg@10": np.mean(ndcg) if ndcg else None,
    }


def test_each_metric_counts_the_rows_that_have_what_it_needs(experiment, tmp_path):
    (found,) = run_ranks(measured, 1, experiment)
    train = [row for row in pq.read_table(tmp_path / "train.parquet").to_pylist() if not is_bad(row)]
    every = pq.read_table(tmp_path / "test.parquet").to_pylist()
    for t, (task, label) in enumerate((("click", "clicked"), ("buy", "bought"))):
        known = [row for row in train if row[label] is not None]
        rate = np.mean([row[label] for row in known])
        for row, probability in zip(every, found["predicted"][:, t], strict=True):
            same = [other[label] for other in known if other["item"] == row["item"] and row["item"] is not None]
            row["popularity"] = (sum(same) + 10 * rate) / (len(same) + 10)
            row["score"] = float(probability)
        test = [row for row in every if not is_bad(row) and row[label] is not None]
        assert found["labels"][:, t].sum() == sum(row[label] for row in test)
        items, users = ({row[name] for row in train} for name in ("item", "user"))
        has_item = [row for row in test if row["item"] is not None]
        slices = {
            "all": test,
            "warm_items": [row for row in has_item if row["item"] in items],
            "cold_items": [row for row in has_item if row["item"] not in items],
            "cold_users": [row for row in test if row["user"] is not None and row["user"] not in users],
            "items_seen_20_to_99": [r for r in has_item if 20 <= sum(o["item"] == r["item"] for o in train) < 100],
        }
        for name, rows in slices.items():
            told = [row for row in found["rows"] if (row["task"], row["slice"]) == (task, name)]
            assert len(told) == bool(rows), name
            for row in told:
                right = right_metrics(rows, "score", label) | {"popularity_auc": auc(rows, "popularity", label)}
                right["oracle_auc"] = auc(rows, "truth", label) if task == "click" else None
                for metric, value in right.items():
                    assert row[metric] == (value if value is None else pytest.approx(value, abs=1e-6)), (name, metric)
    assert found["skipped"] == sum(map(is_bad, every))


def test_the_next_item_is_one_that_was_chosen(experiment, tmp_path):
    (found,) = run_ranks(measured, 1, experiment)
    train = [row for row in pq.read_table(tmp_path / "train.parquet").to_pylist() if not is_bad(row)]
    every = pq.read_table(tmp_path / "test.parquet").to_pylist()
    assert len(every) == len(found["scores"])
    ranks = {"": [], "popularity_": []}
    for row, scores in zip(every, found["scores"], strict=True):
        if is_bad(row) or row["item"] is None or not (row["clicked"] or row["bought"]):
            continue
        counts = [sum(other["item"] == item for other in train) for item in found["items"]]
        for name, of_items in (("", scores), ("popularity_", counts)):
            left = {
                i: s
                for i, s in zip(found["items"], of_items, strict=True)
                if i not in set(row["history"] or []) - {row["item"]}
            }
            ranks[name].append(sum(s >= left[row["item"]] for s in left.values()) - 1)
    (told,) = [row for row in found["next_item"] if row["slice"] == "all"]
    assert told["rows"] == len(ranks[""])
    for name, of_rows in ranks.items():
        for k in (5, 10):
            assert told[f"{name}hr@{k}"] == pytest.approx(np.mean([r < k for r in of_rows]))
            assert told[f"{name}mrr@{k}"] == pytest.approx(np.mean([(r < k) / (r + 1) for r in of_rows]))
            assert told[f"{name}ndcg@{k}"] == pytest.approx(np.mean([(r < k) / math.log2(r + 2) for r in of_rows]))
        others = len(found["items"]) - 1
        assert told[f"{name}percentile"] == pytest.approx(1 - np.mean(of_rows) / others)
    parts = [row["rows"] for row in found["next_item"] if row["slice"] in ("warm_items", "cold_items")]
    assert sum(parts) == told["rows"]


def test_ranks_change_none_of_them(experiment):
    (alone,) = run_ranks(measured, 1, experiment)
    together, rest = run_ranks(measured, 2, experiment)
    assert rest["rows"] == rest["next_item"] == []
    for part in ("rows", "next_item"):
        for one, other in zip(alone[part], together[part], strict=True):
            assert one == pytest.approx(other, abs=1e-6, nan_ok=True), one


def evaluated(runtime: Runtime, run: Path) -> dict[str, Any]:
    evaluating.measured_rows = partial(measured_rows, together=0)
    job = runtime.on_main(lambda: prepare_evaluation(run, "test", keeps=True, slices=("age", "page", "clicked")))
    return evaluate_run(job, runtime)


def test_an_evaluation_and_its_predictions_are_the_same_on_any_ranks(experiment, tmp_path):
    run = tmp_path / "run"
    run_ranks(train_run, 1, experiment, run)
    file, found = predictions_file(run, "test"), []
    for ranks in (1, 2, 3):
        found.append((run_ranks(evaluated, ranks, run)[0], pq.read_table(file), read_told(file) or {}))
    (wanted, kept, told), *others = found
    assert kept.num_rows == 300
    for document, table, of_ranks in others:
        assert document.keys() == wanted.keys()
        assert document["slices"] == wanted["slices"]
        for part in ("rows", "next_item"):
            for row, of_one in zip(document[part], wanted[part], strict=True):
                assert row == pytest.approx(of_one, abs=1e-6, nan_ok=True)
        assert table.schema.equals(kept.schema)
        assert alike(of_ranks, told)  # but for times of files, which are told once they are seconds old
        for name in kept.column_names:
            if name.startswith("score/"):
                np.testing.assert_allclose(table[name].to_numpy(), kept[name].to_numpy(), rtol=1e-5)
            else:
                assert table[name].equals(kept[name]), name
