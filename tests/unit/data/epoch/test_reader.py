import os
import sys
import threading
import time
from collections import Counter
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from foundrank.data.batch.batch import Batch
from foundrank.data.config.load import load_experiment
from foundrank.data.epoch import reader as reader_module
from foundrank.data.epoch.order import Block, Position, deal, epoch_chunks, ordered_chunks, resume
from foundrank.data.epoch.reader import Reader
from foundrank.data.prefetch import prefetch
from foundrank.model.kinds import KINDS
from tests.tiny_world import SCHEMAS, encoder_of, random_events, train_files, write_world

DOMAINS = tuple(SCHEMAS)
PADDED = 120


class World:
    """A written world, its encoder, and its events encoded; they are named by their ``row`` column."""

    def __init__(self, folder, rows: dict[str, int], files: int, group: int):
        events = random_events(sum(rows.values()), rows)
        experiment = write_world(folder, events, files=files, group=group)
        self.encoder = encoder_of(experiment)
        self.files = {self.encoder.layout.domains.index(n): f for n, f in train_files(experiment).items()}
        self.domain_of = {row["row"]: name for name, of_domain in events.items() for row in of_domain}
        self.number_of = {name: [row["row"] for row in of_domain] for name, of_domain in events.items()}
        self.encoded = {}
        for name, of_domain in events.items():
            plain = [{column: row[column] for column in SCHEMAS[name].names} for row in of_domain]
            table = pa.Table.from_pylist(plain, schema=SCHEMAS[name])
            self.encoded[name] = self.encoder.encode(name, table, "events", with_host=True)
        self.shared = self.reader()  # its cache spares most tests the reading

    def chunks(self, epoch=0, shuffle_rows=65_536):
        return epoch_chunks(self.files, dict.fromkeys(self.files, 1.0), 5, epoch, shuffle_rows)

    def reader(self, with_host=True) -> Reader:
        return Reader(self.encoder, self.files, PADDED, with_host)

    def expected(self, numbers):
        """The batch of the given events, encoded a whole domain at a time."""
        parts = []
        for name in DOMAINS:
            at = [self.number_of[name].index(n) for n in numbers if self.domain_of[n] == name]
            parts.append(self.encoded[name].take(np.array(at, np.int64)))
        return self.encoder.assemble(parts, PADDED)


def same(a, b) -> bool:
    """Whether two batches agree in every field."""
    tensors = [(getattr(a, n), getattr(b, n)) for n in ("dense", "id_counts", "labels", "label_mask", "domains")]
    tensors += [(a.sparse.values(), b.sparse.values()), (a.sparse.lengths(), b.sparse.lengths())]
    for name in a.vectors.keys() | b.vectors.keys():
        tensors += [(a.vectors[name], b.vectors[name]), (a.vector_present[name], b.vector_present[name])]
    hosts = [np.array_equal(a.host[n], b.host[n], equal_nan=n.startswith("oracle")) for n in a.host | b.host]
    return a.domain_lengths == b.domain_lengths and all(torch.equal(x, y) for x, y in tensors) and all(hosts)


@pytest.fixture(scope="module")
def worlds(tmp_path_factory) -> list[World]:
    shapes = [
        ({"find": 40, "home": 23, "new": 7}, 1, 1000),
        ({"find": 31, "home": 64, "new": 1}, 2, 3),
        ({"find": 14, "home": 2, "new": 9}, 3, 1),  # a row group for each row
    ]
    return [World(tmp_path_factory.mktemp("world"), *shape) for shape in shapes]


@settings(max_examples=20)
@given(st.integers(0, 2), st.integers(0, 2), st.integers(5, 30), st.sampled_from([5, 60, 1000]), st.data())
def test_each_row_once_through_any_kills_and_rank_counts(worlds, which, epoch, batch_size, shuffle_rows, data):
    world = worlds[which]
    chunks, position, seen = world.chunks(epoch, shuffle_rows), Position(epoch), []
    lives = data.draw(st.integers(1, 3))
    for life in range(lives):
        ranks = data.draw(st.integers(1, 3))
        plans, first, here = resume(chunks, Position.from_dict(position.as_dict()), ranks, batch_size)
        last = plans[0].steps if life == lives - 1 else data.draw(st.integers(first, max(first, plans[0].steps)))
        for plan in plans:
            reading = world.shared.batches(plan, first)
            batches = [next(reading) for _ in range(first, last)]
            for batch in batches:
                assert batch.rows <= batch_size + len(DOMAINS)
                numbers = batch.host["list"].tolist()
                assert same(batch, world.expected(numbers))
                seen += numbers
            if last == plans[0].steps:
                assert next(reading, None) is None
        position = here.after(ranks, last)
    assert sorted(seen) == sorted(world.domain_of)


@settings(max_examples=15)
@given(st.integers(0, 2), st.integers(1, 3), st.integers(6, 20), st.data())
def test_resumed_batches_are_those_that_would_have_come(worlds, which, ranks, batch_size, data):
    world = worlds[which]
    chunks = world.chunks()
    plans, _, here = resume(chunks, Position(), ranks, batch_size)
    killed = data.draw(st.integers(0, plans[0].steps))
    again, first, _ = resume(chunks, here.after(ranks, killed), ranks, batch_size)
    for old, new in zip(plans, again, strict=True):
        whole = list(world.shared.batches(old))
        resumed = list(world.shared.batches(new, first))
        assert len(whole) == old.steps
        assert len(resumed) == old.steps - killed
        assert all(same(a, b) for a, b in zip(whole[killed:], resumed, strict=True))


def test_epochs_have_different_orders(worlds):
    world = worlds[0]
    orders = []
    for epoch in range(3):
        (plan,) = deal(world.chunks(epoch), 1, 1000)
        (batch,) = world.shared.batches(plan)
        orders.append(batch.host["list"].tolist())
    assert sorted(orders[0]) == sorted(orders[1]) == sorted(orders[2])
    assert len({tuple(order) for order in orders}) == 3


def test_ordered_chunks_are_read_in_file_order(worlds):
    for world in worlds:
        (plan,) = deal(ordered_chunks(world.files), 1, 8)
        by_domain: dict[str, list[int]] = {name: [] for name in DOMAINS}
        for batch in world.shared.batches(plan):
            for number in batch.host["list"].tolist():
                by_domain[world.domain_of[number]].append(number)
        assert [n for name in DOMAINS for n in by_domain[name]] == list(world.domain_of)


def test_domains_are_spread_over_all_steps(worlds):
    world = worlds[0]
    (plan,) = deal(world.chunks(), 1, 7)
    lengths = np.array([batch.domain_lengths for batch in world.shared.batches(plan)])
    assert lengths.sum(0).tolist() == [40, 23, 7]
    assert (lengths.max(0) - lengths.min(0) <= 1).all()


def test_ranks_with_too_few_rows_get_empty_batches(tmp_path):
    world = World(tmp_path, {"find": 2, "home": 1, "new": 1}, 1, 10)
    plans = deal(world.chunks(), 8, 4)
    assert {plan.steps for plan in plans} == {1}
    batches = [next(world.shared.batches(plan)) for plan in plans]
    assert sum(batch.rows for batch in batches) == 4
    empty = [batch for batch in batches if batch.rows == 0]
    assert len(empty) >= 4
    for batch in empty:
        assert same(batch, world.expected([]))


def test_a_domain_left_out_of_a_split_is_left_out(worlds):
    world = worlds[0]
    files = {position: events for position, events in world.files.items() if position != 1}
    reader = Reader(world.encoder, files, 20, with_host=True)
    (plan,) = deal(ordered_chunks(files), 1, 9)
    seen = [n for batch in reader.batches(plan) for n in batch.host["list"].tolist()]
    assert sorted(seen) == [n for n, name in world.domain_of.items() if name != "home"]


def test_one_column_may_serve_twice(tmp_path):
    write_world(tmp_path, random_events(0, {"find": 9, "home": 9, "new": 9}))
    again = ["domains.home.features.who={kind: categorical, column: user}", "domains.new.tasks.tap={label: click}"]
    experiment = load_experiment(tmp_path, again, kinds=KINDS)
    encoder = encoder_of(experiment)
    files = {encoder.layout.domains.index(name): events for name, events in train_files(experiment).items()}
    (plan,) = deal(ordered_chunks(files), 1, 50)
    (batch,) = Reader(encoder, files, 50).batches(plan)
    bags = batch.sparse.to_dict()
    of_home = batch.domains.numpy() == encoder.layout.domains.index("home")
    lengths = {key: bags[key].lengths().numpy()[: batch.rows] for key in ("id_user", "feature_who")}
    np.testing.assert_array_equal(lengths["feature_who"], lengths["id_user"] * of_home)


def test_training_batches_carry_no_host_columns(worlds):
    (plan,) = deal(worlds[0].chunks(), 1, 10)
    assert next(worlds[0].reader(with_host=False).batches(plan)).host == {}


def test_the_cache_saves_reading_and_changes_nothing(worlds, monkeypatch):
    reads: Counter = Counter()
    read = reader_module.read_events

    def counting(path, group, needs, policy):
        reads[path, group] += 1
        return read(path, group, needs, policy)

    monkeypatch.setattr(reader_module, "read_events", counting)
    for world in worlds:
        (plan,) = deal(world.chunks(shuffle_rows=20), 1, 8)
        reads.clear()
        cached = list(world.reader().batches(plan))
        assert set(reads.values()) == {1}
        groups = len(reads)
        with monkeypatch.context() as patch:
            patch.setattr(reader_module, "CACHE_SHARE", 0)
            small = world.reader()
            uncached = list(small.batches(plan))
            assert not small._cache
        if world is worlds[0]:  # one row group per domain, which its chunks take turns in
            assert sum(reads.values()) > 2 * groups
        assert all(same(a, b) for a, b in zip(cached, uncached, strict=True))


def test_the_cache_keeps_the_last_used_within_its_bytes(worlds):
    world = worlds[0]
    (plan,) = deal(world.chunks(shuffle_rows=20), 1, 8)
    free = world.reader()
    bytes_of_one = max(held.rows.nbytes for _ in free.batches(plan) for held in free._cache.values())
    reader = world.reader()
    reader._most = 2.5 * bytes_of_one
    most, before = 0, []
    for _ in reader.batches(plan):
        assert reader._cached == sum(held.rows.nbytes for held in reader._cache.values())
        assert reader._cached <= 2.5 * bytes_of_one
        most = max(most, len(reader._cache))
        before.append(list(reader._cache))
    assert most > 1
    assert not reader._cache  # nothing of the plan is left that would need it
    assert any(later[-1] in earlier[:-1] for earlier, later in pairwise(before) if later)  # used again, and so last


def test_a_row_group_is_cut_down_to_the_blocks_in_use(worlds):
    rows = worlds[0].encoded["find"]
    blocks = [Block(0, 0, start, min(start + 16, len(rows))) for start in range(0, len(rows), 16)]
    for used in (blocks[1:2], blocks[:1] + blocks[2:]):
        held = reader_module._compact(rows, used)
        assert len(held.rows) in (len(rows), sum(block.rows for block in used))
        for block in used:
            np.testing.assert_array_equal(held.block(block).singles, rows.singles[block.start : block.stop])
    assert len(reader_module._compact(rows, blocks[1:2]).rows) == 16
    assert reader_module._compact(rows, blocks).rows is rows


def test_a_plan_left_half_way_leaves_nothing_to_the_next(worlds):
    world = worlds[0]
    plans = deal(world.chunks(shuffle_rows=20), 2, 8)
    reader = world.reader()
    next(reader.batches(plans[0]))
    given = list(reader.batches(plans[1]))
    assert all(same(a, b) for a, b in zip(given, world.reader().batches(plans[1]), strict=True))


def reader_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "reader"]


def wait_until(condition, seconds=5.0) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.005)
    return condition()


@pytest.mark.parametrize("depth", [1, 3])
def test_prefetch_keeps_order_and_runs_ahead(depth):
    taken: list[int] = []

    def source():
        for i in range(20):
            taken.append(i)
            yield i

    ahead = prefetch(source(), depth)
    assert next(ahead) == 0
    # One given out, `depth` waiting, one in the hand of the thread.
    assert wait_until(lambda: len(taken) == depth + 2)
    time.sleep(0.05)
    assert len(taken) == depth + 2
    assert list(ahead) == list(range(1, 20))
    assert reader_threads() == []


def test_prefetch_passes_exceptions_on():
    def source():
        yield 1
        raise ValueError("row 7 is bad")

    ahead = prefetch(source(), 2)
    assert next(ahead) == 1
    with pytest.raises(ValueError, match="row 7 is bad"):
        next(ahead)
    assert reader_threads() == []
    assert list(prefetch(iter([]), 2)) == []


@pytest.mark.skipif(sys.platform != "linux", reason="threads have no priorities of their own")
def test_prefetch_leaves_the_processor_to_the_thread_that_waits_for_it():
    def niceness() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    def source():
        yield niceness()

    before = niceness()
    assert list(prefetch(source(), 1)) == [19]
    assert niceness() == before


def test_prefetch_stops_its_thread_when_nobody_reads_on():
    def source():
        while True:
            yield 1

    ahead = prefetch(source(), 2)
    assert next(ahead) == 1
    assert len(reader_threads()) == 1
    ahead.close()
    assert reader_threads() == []


def test_prefetch_may_be_given_up_in_its_own_thread(monkeypatch):
    """After Ctrl-C it is part of what garbage collection finds, which runs in any thread."""
    unraisable: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", unraisable.append)
    held: list[object] = []

    def source():
        yield 1
        assert wait_until(lambda: held)
        held.clear()
        yield 2

    ahead = prefetch(source(), 1)
    assert next(ahead) == 1
    held.append(ahead)
    del ahead
    assert wait_until(lambda: not held and not reader_threads())
    assert not unraisable


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_pinned_batches_are_the_reader_s_and_reach_the_gpu(worlds):
    world = worlds[0]
    (plan,) = deal(world.chunks(), 1, 32)
    for batch, pinned in zip(
        world.reader().batches(plan), map(Batch.pin_memory, world.reader().batches(plan)), strict=True
    ):
        assert pinned.dense.is_pinned()
        assert pinned.sparse.values().is_pinned()
        assert same(batch, pinned.to(torch.device("cuda"), non_blocking=True).to(torch.device("cpu")))


def test_prefetch_gives_the_reader_s_batches(worlds):
    world = worlds[0]
    (plan,) = deal(world.chunks(), 1, 9)
    direct = list(world.shared.batches(plan))
    ahead = list(prefetch(world.shared.batches(plan), 2))
    assert all(same(a, b) for a, b in zip(direct, ahead, strict=True))
