"""Rates that go on from increment to increment: what rows know, against a slow count of all data."""

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foundrank.data.arrow.ids import id_keys
from foundrank.data.batch.rate_counting import count_rates, earlier_rates, rate_matrix
from foundrank.data.batch.row_encoder import RowEncoder
from foundrank.data.config.load import load_experiment
from foundrank.data.counting.counting_pass import count
from foundrank.data.counting.statistics import Statistics
from foundrank.data.rates import rates
from foundrank.data.rates.parts import Place
from foundrank.data.rates.rates import NOTHING_KNOWN, Rates
from foundrank.data.rates.saved_rates import IDS, SUMS
from foundrank.data.rates.so_far import RatesSoFar
from foundrank.model.kinds import KINDS
from tests.tiny_world import train_files

DOMAINS = ("shop", "news")
COLUMNS = {"user": pa.int64(), "item": pa.int64(), "brand": pa.int64(), "at": pa.float64(), "click": pa.float64()}
MANAGED = {"encoding": "managed", "rows": 3, "window": 2, "expire_after": 1e-4}  # some nine seconds
WAYS = {"vocab": {}, "managed": MANAGED, "hash": {"encoding": "hash", "buckets": 3}}
TABLES = {"user": "id_user", "item": "id_item", "brand": "feature_brand"}
Event = dict[str, Any]


def written(folder: Path, number: int, events: dict[str, list[Event]], way: str, time: bool, **more: Any):
    """An increment's experiment, and its events in files of small row groups."""
    domains: dict[str, Any] = {}
    for name, of_domain in events.items():
        place = folder / str(number) / name
        place.mkdir(parents=True, exist_ok=True)
        columns = pa.schema(COLUMNS | ({"buy": pa.float64()} if "buy" in more.get("tasks", {}) else {}))
        table = pa.Table.from_pylist([{key: row.get(key) for key in columns.names} for row in of_domain], columns)
        pq.write_table(table, place / "0.parquet", row_group_size=3)
        tasks = {"click": {"label": "click"}} | more.get("tasks", {})
        domains[name] = {"kind": "recommendation", "events": {"train": str(place / "*.parquet")}, "tasks": tasks}
        domains[name] |= {"time": "at"} if time else {}
    managed = {key: value for key, value in WAYS[way].items() if time or key != "expire_after"}
    item = {"id": "item", **managed, "features": {"brand": {"kind": "categorical", **managed}}}
    raw = {"name": "on", "entities": {"user": {"id": "user"}, "item": item}, "domains": domains}
    raw["model"] = {"rates": True}
    return load_experiment(raw, kinds=KINDS)


def moments_of(found: Rates | None) -> dict[str, tuple[float, float]]:
    return {} if found is None else found.moments


def following(experiment, before: Statistics | None, moments=None) -> RowEncoder:
    """What an increment's training has, with rates."""
    files = train_files(experiment)
    statistics = count(experiment, files)
    statistics = statistics if before is None else before.extended(statistics)
    encoder = RowEncoder(experiment, statistics)
    earlier = None if before is None else earlier_rates(before, encoder)
    known = moments if before is None else moments_of(before.rates)
    return RowEncoder(experiment, replace(statistics, rates=count_rates(encoder, files, known or {}, earlier=earlier)))


def row_of(encoder: RowEncoder, key: str, value: int) -> tuple[int, bool]:
    """Its row, and whether rows are hashed."""
    table = encoder.statistics.tables[TABLES[key]]
    return int(table.lookup(id_keys(pa.array([value], pa.int64()))[0])[0]), table.encoding == "hash"


class Slow:
    """All that is known of ids so far, event by event."""

    def __init__(self) -> None:
        self.known: dict[tuple[str, Any], list[Event]] = {}

    def key(self, encoder: RowEncoder, key: str, event: Event) -> Any:
        """What tells an event's id or category from others, or of hashed ones their row; None where it has no row."""
        if event[key] is None:
            return None
        row, hashed = row_of(encoder, key, event[key])
        return None if row == 0 else row if hashed else event[key]

    def forget(self, encoder: RowEncoder) -> None:
        """What has lost its row, in between."""
        for key, value in list(self.known):
            row, hashed = row_of(encoder, key, value)
            if not row and not hashed:
                del self.known[key, value]

    def add(self, encoder: RowEncoder, events: list[Event]) -> None:
        for event in events:
            for key in TABLES:
                if event["click"] is not None and (value := self.key(encoder, key, event)) is not None:
                    self.known.setdefault((key, value), []).append(event)


def shown(of: list[Event], labels: np.ndarray, prior: float) -> list[float]:
    """Rate and count, as of one column of each."""
    mean, n = labels[1] / max(labels[0], 1e-12), len(of)
    rate = np.clip((sum(event["click"] for event in of) + prior * mean) / (n + prior), 1e-6, 1 - 1e-6)
    mean = np.clip(mean, 1e-6, 1 - 1e-6)
    return [np.log(rate / (1 - rate)) - np.log(mean / (1 - mean)), np.log1p(n)]


EVENTS = st.fixed_dictionaries(
    {
        "user": st.integers(1, 3),
        "item": st.integers(1, 7) | st.none(),
        "brand": st.integers(1, 5),
        "at": st.integers(0, 9).map(float) | st.none(),
        "click": st.sampled_from([0.0, 1.0, 1.0, None]),
    }
)
DAYS = st.lists(st.tuples(st.lists(EVENTS, max_size=9), st.lists(EVENTS, max_size=9)), min_size=2, max_size=4)
LABELLED = {"user": 1, "item": 1, "brand": 1, "at": 0.0}


@settings(max_examples=40, deadline=None)
@given(DAYS, st.sampled_from([*WAYS]), st.booleans())
def test_after_any_number_of_increments_each_row_knows_what_a_slow_count_of_all_data_says(days, way, time):
    slow, before, first = Slow(), None, None
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patched:
        patched.setattr(rates, "FARTHEST", 1e9)
        for number, day in enumerate(days):
            events = {d: [LABELLED | {"click": 0.0}, LABELLED | {"click": 1.0}, *of] for d, of in zip(DOMAINS, day, strict=True)}  # fmt: skip
            for each, of_domain in events.items():
                for event in of_domain:
                    event |= {"domain": each, "at": None if event["at"] is None else event["at"] + 10 * number}
            experiment = written(Path(name), number, events, way, time)
            encoder = following(experiment, before, unstandardised(experiment))
            encoder.statistics.save(Path(name) / f"{number}-kept")
            before = Statistics.load(Path(name) / f"{number}-kept")
            encoder = RowEncoder(experiment, before)
            assert before.rates is not None
            first = first or before.rates
            slow.forget(encoder)
            check(encoder, slow, events, first, number)
            slow.add(encoder, [event for of_domain in events.values() for event in of_domain])
            check_all(encoder, slow, events, first)


def unstandardised(experiment) -> dict[str, tuple[float, float]]:
    columns = count(experiment, train_files(experiment)).rate_columns
    return dict.fromkeys(columns, (0.0, 1.0))


def parts_of(encoder: RowEncoder, name: str) -> dict[str, np.ndarray]:
    """Entity -> the part of each row."""
    assert encoder.statistics.rates is not None
    found: dict[str, list[np.ndarray]] = {}
    for path in train_files(encoder.experiment)[name].files:
        with pq.ParquetFile(path) as file:
            for group in range(file.num_row_groups):
                table = file.read_row_group(group)
                of = encoder.statistics.rates.parts.of_rows(encoder.experiment, name, table, Place(0, group))
                for entity, rows in of.items():
                    found.setdefault(entity, []).append(np.stack([rows.added, rows.known]))
    return {entity: np.concatenate(each, 1) for entity, each in found.items()}


def check(encoder: RowEncoder, slow: Slow, events: dict[str, list[Event]], first: Rates, number: int) -> None:
    """What rows of training know: all of before, and of their own increment what was before them, or other folds."""
    parts = {name: parts_of(encoder, name) for name in events}
    ordered = encoder.statistics.rates.parts.ordered
    assert number == 0 or all((of[0] > 0).all() for each in parts.values() for of in each.values())
    for name, files in train_files(encoder.experiment).items():
        matrix = rate_matrix(encoder, name, files, of_training=True)
        for at, event in enumerate(events[name]):
            for key in TABLES:
                entity = "user" if key == "user" else "item"
                mine = slow.key(encoder, key, event)
                known = list(slow.known.get((key, mine), []))
                for other, of_domain in events.items():
                    for there, event_there in enumerate(of_domain):
                        if mine is None or event_there["click"] is None or slow.key(encoder, key, event_there) != mine:
                            continue
                        part, limit = parts[other][entity][0, there], parts[name][entity][1, at]
                        if part < limit if ordered else part != limit:
                            known.append(event_there)
                compare(encoder, matrix[at], key, name, event[key] is None, known, first)


def check_all(encoder: RowEncoder, slow: Slow, events: dict[str, list[Event]], first: Rates) -> None:
    """What scoring knows."""
    for name, files in train_files(encoder.experiment).items():
        matrix = rate_matrix(encoder, name, files, of_training=False)
        for at, event in enumerate(events[name]):
            for key in TABLES:
                known = slow.known.get((key, slow.key(encoder, key, event)), [])
                compare(encoder, matrix[at], key, name, event[key] is None, known, first)


def compare(
    encoder: RowEncoder, row: np.ndarray, key: str, domain: str, missing: bool, known: list[Event], first: Rates
) -> None:
    assert first.so_far is not None
    table, d = TABLES[key], encoder.layout.domains.index(domain)
    for name, of, labels, at in (
        (table, known, first.so_far.labels[-1, 0], 0),
        (f"{table}.here", [event for event in known if event["domain"] == domain], first.so_far.labels[d, 0], d),
    ):
        where = encoder.statistics.rate_columns.index(f"{name}.click.rate")
        found = row[where : where + 2]
        if missing:
            assert not found.any()
        elif (found == NOTHING_KNOWN).all():
            assert not of
        else:
            wanted = shown(of, labels, first.so_far.tables[name].priors[at, 0])
            np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5, err_msg=f"{name} {domain}")


def day(number: int, n: int = 60, items: int = 9) -> dict[str, list[Event]]:
    random = np.random.default_rng(number)
    return {
        name: [
            {
                "user": int(random.integers(1, 9)),
                "item": int(item),
                "brand": int(item % 4),
                "at": float(100 * number + random.integers(0, 90)),
                "click": float(random.random() < item / items),
            }
            for item in random.integers(1, items, n)
        ]
        for name in DOMAINS
    }


@pytest.mark.parametrize("time", [True, False])
def test_scales_means_and_priors_stay_those_that_the_weights_were_learned_with(tmp_path, time):
    first = following(written(tmp_path, 0, day(0), "vocab", time), None).statistics.rates
    second = following(
        written(tmp_path, 1, day(1, 400, 20), "vocab", time),
        following(written(tmp_path, 0, day(0), "vocab", time), None).statistics,
    ).statistics.rates
    assert first is not None
    assert second is not None
    assert first.so_far is not None
    assert second.so_far is not None
    assert second.moments == first.moments
    np.testing.assert_array_equal(second.so_far.labels, first.so_far.labels)
    for name, table in first.so_far.tables.items():
        np.testing.assert_array_equal(second.so_far.tables[name].priors, table.priors)


def test_a_row_that_changes_hands_has_nothing_of_its_former_owner(tmp_path):
    def days(item: int) -> dict[str, list[Event]]:
        of_item = {"user": 1, "item": item, "brand": 1}
        return {
            name: [of_item | {"at": 1000.0 * item + i, "click": float(i % 2)} for i in range(6)] for name in DOMAINS
        }

    owned = {"encoding": "managed", "rows": 1, "expire_after": 1e-4}
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(WAYS, "managed", owned)
        first = following(written(tmp_path, 0, days(1), "managed", True), None)
        encoder = following(written(tmp_path, 1, days(2), "managed", True), first.statistics)
    assert encoder.statistics.tables["id_item"].lookup(id_keys(pa.array([1, 2]))[0]).tolist() == [0, 1]
    so_far = encoder.statistics.rates.so_far.tables
    assert so_far["id_item"].sums.tolist() == [[12, 6]]
    assert so_far["id_item.here"].sums.tolist() == [[6, 3], [6, 3]]
    assert so_far["id_user"].sums.tolist() == [[24, 12]]
    assert so_far["id_user.here"].sums.tolist() == [[12, 6], [12, 6]]


def test_new_tasks_and_domains_come_to_those_of_before(tmp_path):
    first = following(written(tmp_path, 0, {"shop": day(0)["shop"]}, "vocab", True), None)
    more = {name: [event | {"buy": event["click"]} for event in of] for name, of in reversed(day(1).items())}
    experiment = written(tmp_path, 1, more, "vocab", True, tasks={"buy": {"label": "buy"}})
    encoder = following(experiment, first.statistics)
    before, now = first.statistics.rates.so_far, encoder.statistics.rates.so_far
    assert (now.domains, now.tasks) == (("news", "shop"), ("click", "buy"))
    np.testing.assert_array_equal(now.labels[1:, 0], np.stack([before.labels[0, 0], before.labels[1, 0]]))
    assert (
        now.labels[0, 0, 0] == now.labels[0, 1, 0] == 60
    )  # of a domain, and of a task, that are new, of the increment
    events = [(0, event) for event in day(0)["shop"]] + [(1, event) for event in more["shop"]]
    for item in range(1, 9):
        row = int(encoder.statistics.tables["id_item"].lookup(id_keys(pa.array([item]))[0])[0])
        of = now.tables["id_item.here"]
        (found,) = of.sums[of.ids == row * 2 + 1].tolist()
        mine = [(number, event["click"]) for number, event in events if event["item"] == item]
        of_buy = [click for number, click in mine if number]
        assert found == [len(mine), sum(click for _, click in mine), len(of_buy), sum(of_buy)]


@pytest.mark.parametrize("time", [True, False])
def test_what_goes_on_is_kept_in_the_run_and_mapped(tmp_path, time):
    encoder = following(written(tmp_path, 0, day(0), "managed", time), None)
    encoder.statistics.save(tmp_path / "kept")
    then, now = encoder.statistics.rates.so_far, Statistics.load(tmp_path / "kept").rates.so_far
    assert isinstance(now, RatesSoFar)
    assert (now.domains, now.tasks) == (then.domains, then.tasks)
    np.testing.assert_array_equal(now.labels, then.labels)
    for name, table in then.tables.items():
        for one, other in zip(table, now.tables[name], strict=True):
            np.testing.assert_array_equal(one, other)
        assert isinstance(now.tables[name].sums.base, np.memmap)
    encoder.statistics.rates = replace(encoder.statistics.rates, so_far=None)
    encoder.statistics.save(tmp_path / "old")
    assert not {IDS, SUMS} & {path.name for path in (tmp_path / "old").iterdir()}
    old = Statistics.load(tmp_path / "old")
    assert old.rates.so_far is None
    assert earlier_rates(old, encoder) is None
