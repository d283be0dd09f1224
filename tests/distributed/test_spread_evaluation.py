"""Metrics, slices and kept predictions of any number of ranks are those of one, and no rank has all rows."""

import math
import tracemalloc
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from foundrank.data.config.sections.bad_data import BadDataConfig
from foundrank.data.events.event_files import list_events
from foundrank.dist.evaluate import measured, prediction_file
from foundrank.dist.evaluate.column_slices import ColumnSlices, read_slices
from foundrank.dist.evaluate.measured import measured_rows
from foundrank.dist.evaluate.next_item_metrics import metric_rows, percentiles
from foundrank.dist.evaluate.prediction_file import write_predictions
from foundrank.dist.exchange import exchange as exchanging
from foundrank.dist.exchange import over_ranks
from foundrank.dist.exchange.over_ranks import OverRanks
from foundrank.dist.ranks.runtime import Runtime
from foundrank.model.tasks.binary import Binary
from foundrank.model.tasks.count import Count
from foundrank.model.tasks.group_metrics import apart
from foundrank.model.tasks.ordinal import Ordinal
from foundrank.model.tasks.regression import Regression
from foundrank.model.tasks.value import Value
from tests.toy_task import Amount

from .harness import run_ranks

TASKS: dict[str, Any] = {
    "click": Binary(label="a"),
    "buy": Binary(label="b"),
    "seconds": Regression(label="c"),
    "tail": Regression(label="d", loss="quantile", quantile=0.9),
    "spent": Value(label="e"),
    "items": Count(label="f"),
    "stars": Ordinal(label="g", levels=(0.0, 1.0, 2.0, 3.0)),
    "own": Amount(label="h"),
}
ROWS = {"home": 1500, "empty": 0, "same": 300, "tiny": 2, "find": 700}


@dataclass
class Domain:
    """What measuring asks of a domain."""

    tasks: dict[str, Any]
    list_column: str | None = None
    weighted: tuple[str, ...] = ()
    users: bool = True

    def weighs_metrics_of(self, task: str) -> bool:
        return task in self.weighted


DOMAINS = {
    "home": Domain(TASKS, "page", ("buy", "spent", "tail")),
    "empty": Domain({"click": TASKS["click"]}),
    "same": Domain({"click": TASKS["click"], "seconds": TASKS["seconds"]}),  # labels of one class, and all alike
    "tiny": Domain({"click": TASKS["click"]}, "page"),
    "find": Domain({"click": TASKS["click"], "stars": TASKS["stars"]}, "page", ("stars",)),
}
LAYOUT = SimpleNamespace(
    domains=list(ROWS),
    tasks=list(TASKS),
    entities=["user", "item"],
    task_weights=[[float(task in domain.tasks) for task in TASKS] for domain in DOMAINS.values()],
)
ENCODER: Any = SimpleNamespace(layout=LAYOUT, experiment=SimpleNamespace(domains=DOMAINS))


@dataclass
class Popularity:
    """A baseline of few scores, so that ties are everywhere."""

    of_items: np.ndarray = field(default_factory=lambda: np.arange(40) // 15 / 4)

    def scores(self, domain: int, task: int) -> np.ndarray:
        return self.of_items.astype(np.float32)


def predicted(seed: int = 0, rows: dict[str, int] = ROWS) -> dict[str, np.ndarray]:
    """Columns of all rows, as of `predict`: ties, rows without a label, a user, a list, an item or a number for a score."""
    random = np.random.default_rng(seed)
    domain = np.repeat(np.arange(len(rows)), list(rows.values()))
    n, t = len(domain), len(TASKS)
    labels = np.round(random.exponential(1, (n, t))).clip(0, 3).astype(np.float32)
    labels[:, :2] = random.random((n, 2)) < 0.3
    labels[domain == LAYOUT.domains.index("same")] = 1
    scores = (np.round(labels * 0.2 + random.random((n, t)), 2) / 1.61).astype(np.float32)
    scores[random.random((n, t)) < 0.01] = np.nan
    user_known, list_known = random.random(n) < 0.9, random.random(n) < 0.8
    columns = {
        "domain": domain,
        "labels": labels,
        "mask": random.random((n, t)) < 0.9,
        "scores": scores,
        "weights": random.integers(0, 4, (n, t)).astype(np.float32) / 3,
        "counts": random.integers(-1, 120, (n, 2)) * random.integers(0, 2, (n, 2)),
        "item": random.integers(0, 40, n),
        "user": apart(random.integers(0, 300, n).astype(np.uint64), user_known),
        "user_known": user_known,
        "list": random.integers(0, 500, n).astype(np.uint64),
        "list_known": list_known,
        "oracle/click": np.where(random.random(n) < 0.0002, np.nan, labels[:, 0] / 2 + random.random(n)),
        "rank": random.integers(0, 60, n),
        "popularity_rank": random.integers(0, 60, n),
        "chosen": (random.random(n) < 0.4) & (domain != LAYOUT.domains.index("tiny")),
        "predicted": random.random(n) < 0.99,
        "items": np.full(n, 61),
    }
    for name in ("rank", "popularity_rank"):
        columns[name.replace("rank", "percentile")] = percentiles(columns[name], columns["items"])
    return columns


def share_of(runtime: Runtime, columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A rank's rows: of each domain a piece, one after the other; the last rank's is a twentieth, and of the second domain with rows none."""
    ranks, mine = runtime.world_size, []
    for d in range(len(LAYOUT.domains)):
        of_domain = np.flatnonzero(columns["domain"] == d)
        last = 0 if d == 2 else len(of_domain) // 20
        cuts = [len(of_domain) - last, last] if ranks == 2 else [(len(of_domain) - last) // 2, -1, last]
        ends = [0, cuts[0], len(of_domain)] if ranks == 2 else [0, cuts[0], len(of_domain) - last, len(of_domain)]
        mine.append(of_domain[ends[runtime.rank] : ends[runtime.rank + 1]] if ranks > 1 else of_domain)
    at = np.concatenate(mine)
    return {name: column[at] for name, column in columns.items()}


def evaluated(runtime: Runtime, together: int, folder: Path) -> tuple[list[dict], list[dict]]:
    exchanging.AT_ONCE, exchanging.PIECE = 301, 211
    columns = share_of(runtime, predicted())
    codes = ((columns["item"] * 7) % 5 - 1).astype(np.int16)
    slices = [ColumnSlices(["a", "b", "c", "d", "never"], codes)]
    rows = measured_rows(ENCODER, columns, runtime, Popularity(), slices, together)  # type: ignore[arg-type]
    next_item = metric_rows(columns, LAYOUT, slices, OverRanks(runtime))  # type: ignore[arg-type]
    write_predictions(folder / f"{runtime.world_size}.parquet", columns, LAYOUT, {"split": "test"}, runtime)  # type: ignore[arg-type]
    return rows, next_item


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict], list[dict]]:
    folder = tmp_path_factory.mktemp("predictions")
    ((rows, next_item),) = run_ranks(evaluated, 1, 0, folder, deadline=240)
    return folder, rows, next_item


@pytest.mark.parametrize(("ranks", "together"), [(2, 0), (3, 0), (3, 600)])
def test_metrics_slices_and_predictions_are_those_of_one_process(alone, ranks, together):
    folder, wanted, wanted_next = alone
    (rows, next_item), *rest = run_ranks(evaluated, ranks, together, folder, deadline=240)
    assert all(of_rank == ([], next_item) for of_rank in rest)
    assert next_item == wanted_next
    assert [list(row) for row in rows] == [list(row) for row in wanted]
    for row, of_one in zip(rows, wanted, strict=True):
        for key, value in of_one.items():
            told = (of_one["domain"], of_one["task"], of_one["slice"], key)
            if isinstance(value, float):
                assert row[key] == pytest.approx(value, rel=1e-12, abs=1e-12), told
            elif key == "deciles":
                np.testing.assert_allclose(row[key], value, rtol=1e-12, atol=1e-12, err_msg=str(told))
            else:
                assert row[key] == value, told
    assert (folder / f"{ranks}.parquet").read_bytes() == (folder / "1.parquet").read_bytes()


def test_what_is_measured_is_worth_comparing(alone):
    _, rows, next_item = alone
    assert {(row["domain"], row["task"]) for row in rows} == {
        (name, task) for name, domain in DOMAINS.items() for task in domain.tasks if name != "empty"
    }
    by_key = {(row["domain"], row["task"], row["slice"]): row for row in rows}
    of_home = by_key["home", "click", "all"]
    assert all(of_home[key] is not None for key in ("auc", "gauc", "uauc", "ne", "ndcg@10", "popularity_auc"))
    assert of_home["overflowed"] > 0
    assert any(row["oracle_auc"] is not None for row in rows if row["task"] == "click")
    assert by_key["same", "click", "all"]["auc"] is None
    assert by_key["same", "seconds", "all"]["spearman"] is None
    assert "weight" in by_key["find", "stars", "all"]
    assert {"a", "d"} <= {row["slice"] for row in rows}
    assert "never" not in {row["slice"] for row in rows}
    assert {row["domain"] for row in next_item} == {"home", "same", "find"}


def most_rows(runtime: Runtime) -> tuple[int, int]:
    """The most rows that came here at one time, and how many there are of the largest domain."""
    came: list[int] = []

    def noted(*arguments: Any) -> Any:
        found = exchange(*arguments)
        came.append(int(found[1].sum()))
        return found

    exchange = over_ranks.exchange
    over_ranks.exchange = measured.exchange = noted
    rows = dict(ROWS, home=6000)
    columns = predicted(1, rows)
    columns["scores"][:, :4] = np.round(columns["scores"][:, :4], 1)  # hardly any that are not equal
    columns["mask"][:, LAYOUT.tasks.index("own")] = False  # can be measured on one rank alone
    measured_rows(ENCODER, share_of(runtime, columns), runtime, Popularity(), together=0)  # type: ignore[arg-type]
    return max(came), rows["home"]


def test_no_rank_is_sent_much_more_than_its_share():
    for most, rows in run_ranks(most_rows, 3, deadline=240):
        assert rows / 10 < most < 0.4 * rows


def held_while_writing(runtime: Runtime, folder: Path) -> list[int]:
    """Bytes that Arrow and NumPy held at most beyond the columns, for two numbers of rows."""
    exchanging.PIECE, prediction_file._OF_ROWS = 512, 2048
    pa.set_memory_pool(pa.system_memory_pool())
    most = []
    for home in (10_000, 80_000):
        columns = share_of(runtime, predicted(1, dict(ROWS, home=home)))
        tracemalloc.start()
        write_predictions(folder / "held.parquet", columns, LAYOUT, {}, runtime)  # type: ignore[arg-type]
        most.append(pa.default_memory_pool().max_memory() + tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    return most


def test_what_ranks_hold_of_the_file_does_not_follow_the_rows(tmp_path):
    for few, many in run_ranks(held_while_writing, 2, tmp_path, deadline=240):
        assert many < 2 * few  # of eight times the rows; what the file says of its row groups is there until its end


SLICED = ("price", "device", "when", "session", "kind", "flag", "nothing")


def write_sliced(folder: Path) -> None:
    random = np.random.default_rng(0)
    for domain, rows in (("home", 900), ("find", 130), ("other", 40)):
        (folder / domain).mkdir()
        columns = {
            "price": [None if p < 0 else p for p in random.normal(2, 1, rows).round(2).tolist()],
            "device": random.choice(["tv", "phone", "desk"], rows),
            "when": pa.array(random.integers(0, 10**6, rows), pa.timestamp("s")),
            "session": [f"s{number}" for number in random.integers(0, 400, rows)],
            "kind": random.integers(0, 4, rows) if domain == "home" else random.integers(0, 4, rows) / 2,
            "flag": random.random(rows) < 0.5,
            "nothing": pa.nulls(rows),
        }
        table = pa.table(columns if domain != "other" else {"else": np.zeros(rows)})
        for part in range(2):
            at = table.slice(part * rows // 2, (part + 1) * rows // 2 - part * rows // 2)
            pq.write_table(at, folder / domain / f"{part}.parquet", row_group_size=70)


def slices_of(runtime: Runtime, folder: Path) -> list[tuple[list[str], np.ndarray]]:
    domains = ["home", "absent", "other", "find"]
    files = {
        name: list_events(f"{folder}/{name}/*.parquet", name, BadDataConfig()) for name in domains if name != "absent"
    }
    ranks, rank = runtime.world_size, runtime.rank
    share = {name: range(of.rows * rank // ranks, of.rows * (rank + 1) // ranks) for name, of in files.items()}
    if ranks == 3:  # one of them has no rows
        share = {name: range(of.rows * rank // 2, of.rows * min(rank + 1, 2) // 2) for name, of in files.items()}
    found = read_slices(SLICED, files, domains, BadDataConfig(), share, OverRanks(runtime))
    cuts = np.cumsum([len(share[name]) for name in domains if name != "absent"])[:-1]
    return [(list(of.names), np.split(of.codes, cuts)) for of in found]


def test_slices_by_columns_have_the_names_and_bands_of_one_process(tmp_path):
    write_sliced(tmp_path)
    (wanted,) = run_ranks(slices_of, 1, tmp_path)
    assert [len(names) for names, _ in wanted] == [5, 4, 5, 22, 7, 3, 1]
    for ranks in (2, 3):
        everyone = run_ranks(slices_of, ranks, tmp_path)
        for at, (names, codes) in enumerate(wanted):
            assert all(of_rank[at][0] == names for of_rank in everyone)
            for domain, of_domain in enumerate(codes):
                got = np.concatenate([of_rank[at][1][domain] for of_rank in everyone])
                np.testing.assert_array_equal(got, of_domain)


def test_gauc_of_a_user_on_several_ranks_counts_the_user_once(alone):
    columns, (_, rows, _) = predicted(), alone
    where = (columns["domain"] == 0) & columns["mask"][:, 0] & np.isfinite(columns["scores"][:, 0])
    y, s, users = columns["labels"][where, 0], columns["scores"][where, 0], columns["user"][where]
    found = []
    for user in np.unique(users):
        up, down = (s[(users == user) & (y == label)].astype(float) for label in (1, 0))
        if len(up) and len(down):
            found.append(((up[:, None] > down) + 0.5 * (up[:, None] == down)).mean())
    (row,) = [row for row in rows if (row["domain"], row["task"], row["slice"]) == ("home", "click", "all")]
    assert math.isclose(row["uauc"], np.mean(found), rel_tol=1e-12)
