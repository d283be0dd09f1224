from collections import Counter, OrderedDict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foundrank.data.epoch import order as plan_module
from foundrank.data.epoch.order import Position, blocks_of, deal, epoch_chunks, ordered_chunks, resume, rows_in
from foundrank.data.events.event_files import EventFiles
from foundrank.data.schema.sizes import padded_rows

MODEST = settings(max_examples=40)
Place = tuple[int, int, int, int]  # domain, file, row group, row

GROUPS = st.lists(st.lists(st.integers(0, 40), max_size=4), min_size=1, max_size=3)
MANY_GROUPS = st.integers(60, 90).flatmap(lambda n: st.just([[3] * n]))
FILES = st.lists(st.one_of(GROUPS, GROUPS, MANY_GROUPS), min_size=1, max_size=3)


def event_files(groups) -> EventFiles:
    return EventFiles(tuple(f"f{i}" for i in range(len(groups))), tuple(tuple(g) for g in groups))


def files_of(domains) -> dict[int, EventFiles]:
    """Domains at positions 0, 2, 4: a split need not have all domains."""
    return {2 * d: event_files(groups) for d, groups in enumerate(domains)}


def places_in(files) -> list[Place]:
    return [
        (d, f, g, row)
        for d, events in files.items()
        for f, groups in enumerate(events.group_rows)
        for g, rows in enumerate(groups)
        for row in range(rows)
    ]


def read(chunk) -> list[Place]:
    rows = [(chunk.domain, b.file, b.group, row) for b in chunk.blocks for row in range(b.start, b.stop)]
    return [rows[i] for i in chunk.order()]


def read_all(chunks) -> list[Place]:
    return [place for of_domain in chunks for chunk in of_domain for place in read(chunk)]


def steps_of(plan, first, last) -> list[list[list[Place]]]:
    """The rows of steps ``first`` to ``last`` of a plan: per step, per domain."""
    streams = [[place for chunk in chunks for place in read(chunk)] for chunks in plan.chunks]
    out = []
    for step in range(first, last):
        before, after = plan.taken(step), plan.taken(step + 1)
        out.append([stream[a:b] for stream, a, b in zip(streams, before, after, strict=True)])
    return out


@MODEST
@given(FILES, st.integers(1, 80), st.integers(1, 9), st.integers(1, 3), st.booleans())
def test_locations_are_those_of_the_rows_of_a_step(domains, shuffle_rows, batch_size, ranks, shuffled):
    files = files_of(domains)
    chunks = epoch_chunks(files, dict.fromkeys(files, 1.0), 3, 0, shuffle_rows) if shuffled else ordered_chunks(files)
    for plan in deal(chunks, ranks, batch_size):
        for step, of_domains in enumerate(steps_of(plan, 0, plan.steps)):
            assert plan.locations(step) == [place for of_domain in of_domains for place in of_domain]


@MODEST
@given(FILES, st.integers(0, 9), st.integers(0, 3), st.integers(1, 80), st.integers(1, 9), st.data())
def test_each_row_once_through_any_kills_and_rank_counts(domains, seed, epoch, shuffle_rows, batch_size, data):
    files = files_of(domains)
    chunks = epoch_chunks(files, dict.fromkeys(files, 1.0), seed, epoch, shuffle_rows)
    position, seen = Position(epoch), []
    for life in range(data.draw(st.integers(1, 4))):
        ranks = data.draw(st.integers(1, 5))
        # What a checkpoint holds has been through JSON.
        plans, first, here = resume(chunks, Position.from_dict(position.as_dict()), ranks, batch_size)
        steps = plans[0].steps
        assert {plan.steps for plan in plans} == {steps}
        last = steps if life == 3 else data.draw(st.integers(first, steps))
        for plan in plans:
            for step in steps_of(plan, first, last):
                rows = [place for of_domain in step for place in of_domain]
                assert len(rows) <= batch_size + len(files)
                seen += rows
        position = here.after(ranks, last)
    plans, first, _ = resume(chunks, position, 2, batch_size)
    for plan in plans:
        seen += [place for step in steps_of(plan, first, plan.steps) for part in step for place in part]
    assert Counter(seen) == Counter(places_in(files))


@MODEST
@given(FILES, st.integers(0, 9), st.integers(1, 4), st.integers(1, 4), st.integers(1, 9), st.data())
def test_resuming_on_as_many_ranks_goes_on_with_the_same_batches(domains, seed, earlier, ranks, batch_size, data):
    files = files_of(domains)
    chunks = epoch_chunks(files, dict.fromkeys(files, 1.0), seed, 0, 50)
    started, first, here = resume(chunks, Position().after(earlier, 1), ranks, batch_size)
    killed = data.draw(st.integers(first, max(first, started[0].steps)))
    again, restart, there = resume(chunks, here.after(ranks, killed), ranks, batch_size)
    assert restart == killed
    assert there == here
    for a, b in zip(started, again, strict=True):
        assert a.steps == b.steps
        assert steps_of(a, killed, a.steps) == steps_of(b, restart, b.steps)
        # What the reader takes: the rest of the chunks, cut where the rows end.
        rest = [[place for chunk in chunks for place in read(chunk)] for chunks in b.rest(restart)]
        steps = steps_of(b, restart, b.steps)
        assert rest == [[place for step in steps for place in step[d]] for d in range(len(files))]


@MODEST
@given(FILES, st.integers(1, 6), st.integers(1, 9))
def test_ranks_and_steps_get_even_shares(domains, ranks, batch_size):
    files = files_of(domains)
    chunks = epoch_chunks(files, dict.fromkeys(files, 1.0), 1, 0, 50)
    plans = deal(chunks, ranks, batch_size)
    for d, events in enumerate(files.values()):
        shares = [plan.rows[d] for plan in plans]
        assert sum(shares) == events.rows
        assert max(shares) - min(shares) <= 1
        for plan in plans:
            per_step = np.diff([plan.taken(step)[d] for step in range(plan.steps + 1)])
            assert plan.steps == 0 or per_step.max() - per_step.min() <= 1
    most = max(sum(plan.rows) for plan in plans)
    assert plans[0].steps == -(-most // batch_size)


def test_no_rank_gets_every_domain_s_remainder():
    files = files_of([[[9]]] * 8)
    plans = deal(epoch_chunks(files, dict.fromkeys(files, 1.0), 0, 0, 100), 4, 100)
    assert [sum(plan.rows) for plan in plans] == [18] * 4


def test_a_batch_never_outgrows_its_padding():
    files = files_of([[[n]] for n in (7, 11, 13, 1, 1)])
    chunks = epoch_chunks(files, dict.fromkeys(files, 1.0), 0, 0, 100)
    for batch_size in range(1, 12):
        (plan,) = deal(chunks, 1, batch_size)
        counts = np.diff([sum(plan.taken(step)) for step in range(plan.steps + 1)])
        assert counts.max() <= padded_rows(batch_size, len(files))


def test_no_rows_no_steps():
    files = files_of([[[0, 0]], [[]]])
    for chunks in (epoch_chunks(files, dict.fromkeys(files, 1.0), 0, 0, 100), ordered_chunks(files)):
        assert [plan.steps for plan in deal(chunks, 3, 4)] == [0, 0, 0]
        assert rows_in(chunks) == 0


@MODEST
@given(FILES, st.lists(st.sampled_from([0.3, 0.5, 1.0, 1.7, 3.2]), min_size=3, max_size=3), st.integers(0, 5))
def test_weighted_epochs_go_round_evenly(domains, weights, seed):
    files = files_of(domains)
    weight_of = dict(zip(files, weights, strict=False))
    seen: Counter[Place] = Counter(dict.fromkeys(places_in(files), 0))
    for epoch in range(4):
        chunks = epoch_chunks(files, weight_of, seed, epoch, 60)
        for (d, events), of_domain in zip(files.items(), chunks, strict=True):
            assert sum(chunk.rows for chunk in of_domain) == round(events.rows * weight_of[d])
        seen.update(read_all(chunks))
        for d in files:
            times = {n for place, n in seen.items() if place[0] == d}
            assert not times or max(times) - min(times) <= 1


@pytest.mark.parametrize("groups", [[[4000]], [[1000] * 4], [[40] * 100], [[40] * 30, [28] * 100]])
def test_rows_are_well_shuffled(groups):
    files = {0: event_files(groups)}
    place_of = {place: i for i, place in enumerate(places_in(files))}
    orders = []
    for seed, epoch in ((0, 0), (0, 1), (1, 0)):
        chunks = epoch_chunks(files, {0: 1.0}, seed, epoch, 65_536)
        orders.append(np.array([place_of[place] for place in read_all(chunks)]))
    rows = np.arange(len(place_of))
    for order in orders:
        # A permutation of whole row groups has a deviation of 1 / sqrt(groups) <= 0.1.
        assert abs(np.corrcoef(rows, order)[0, 1]) < 0.3
        # Neighbours in the file are seldom neighbours in the epoch.
        assert np.mean(np.abs(np.diff(order)) == 1) < 0.1
        # Every tenth of the epoch has rows from all over the files.
        for tenth in np.array_split(order, 10):
            assert len(np.unique(tenth * 5 // len(rows))) == 5
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert abs(np.corrcoef(orders[a], orders[b])[0, 1]) < 0.3


def test_domains_are_shuffled_apart():
    files = files_of([[[500]], [[500]]])
    first, second = epoch_chunks(files, dict.fromkeys(files, 1.0), 0, 0, 1000)
    assert [p[1:] for c in first for p in read(c)] != [p[1:] for c in second for p in read(c)]


def test_an_interrupted_epoch_keeps_its_order_in_every_version():
    files = {0: event_files([[20, 5]])}
    numbers = [20 * group + row for _, _, group, row in read_all(epoch_chunks(files, {0: 1.0}, 2026, 1, 5))]
    first = [21, 22, 17, 16, 18, 23, 24, 20, 19]
    assert numbers == [*first, 6, 10, 8, 13, 14, 2, 0, 5, 7, 3, 9, 15, 11, 4, 1, 12]


@pytest.mark.parametrize("group", [2**20, 200_000, 10_000])
def test_row_groups_of_large_files_are_decoded_about_once(group):
    files = {0: event_files([[group] * (2**22 // group)])}
    decoded, held = 0, OrderedDict()
    for chunk in epoch_chunks(files, {0: 1.0}, 0, 0, 65_536)[0]:
        for block in chunk.blocks:
            if block.group not in held:
                decoded += 1
            held[block.group] = None
            held.move_to_end(block.group)
            while len(held) > max(1, 800_000 // group):  # what the reader's half gigabyte may hold
                held.popitem(last=False)
    assert decoded <= 1.05 * len(files[0].group_rows[0])


@pytest.mark.parametrize("groups", [[[300]], [[3] * 100], [[100], [100] * 2]])
def test_a_small_domain_is_shuffled_as_a_whole(groups):
    small = {0: event_files(groups)}
    position = {place: i for i, place in enumerate(places_in(small))}
    files = small | {1: event_files([[30_000]])}
    first, _ = epoch_chunks(files, dict.fromkeys(files, 1.0), 0, 0, 65_536)
    order = np.array([position[place] for chunk in first for place in read(chunk)])
    # Of a random order, steps between neighbours are 100 rows on average (a third), and few are short.
    steps = np.abs(np.diff(order))
    assert 85 < steps.mean() < 115
    assert (steps <= 8).mean() < 0.12


@MODEST
@given(FILES)
def test_ordered_chunks_read_all_rows_in_file_order(domains):
    files = files_of(domains)
    assert read_all(ordered_chunks(files)) == places_in(files)


@MODEST
@given(GROUPS)
def test_blocks_cover_the_files(groups):
    rows = [(b.file, b.group, row) for b in blocks_of(event_files(groups)) for row in range(b.start, b.stop)]
    assert rows == [place[1:] for place in places_in({0: event_files(groups)})]


def test_chunks_hold_about_the_rows_shuffled_together():
    files = files_of([[[200_000]], [[100_000]]])
    for shuffle_rows in (300, 3000):
        for (_d, events), chunks in zip(
            files.items(), epoch_chunks(files, dict.fromkeys(files, 1.0), 0, 0, shuffle_rows), strict=True
        ):
            block = max(b.rows for b in blocks_of(events))
            share = shuffle_rows * events.rows // 300_000
            assert all(chunk.rows <= share + block for chunk in chunks)
            assert len(chunks) >= 64


def uses_of(chunks) -> list[tuple[float, float]]:
    """Of each row group, how much of a domain's epoch is done when its first use begins and its last one ends."""
    uses, done, rows = {}, 0, sum(chunk.rows for chunk in chunks)
    for chunk in chunks:
        for block in chunk.blocks:
            first, _ = uses.get(block.group, (done / rows, 0.0))
            uses[block.group] = first, (done + chunk.rows) / rows
        done += chunk.rows
    return list(uses.values())


def test_the_row_groups_in_use_are_few_over_all_domains(monkeypatch):
    monkeypatch.setattr(plan_module, "_NEAR_ROWS", 1000)
    monkeypatch.setattr(plan_module, "_SMALL_DOMAIN", 50)
    files = {domain: EventFiles(("a.parquet",), ((100,) * 50,)) for domain in range(4)}
    of_domains = epoch_chunks(files, dict.fromkeys(files, 1.0), 0, 0, shuffle_rows=200)
    uses = [use for chunks in of_domains for use in uses_of(chunks)]
    assert len(uses) == 200
    in_use = [100 * sum(first <= at / 100 < last for first, last in uses) for at in range(100)]
    assert max(in_use) <= 3 * 1000
    assert max(in_use) >= 1000


def test_domains_come_to_their_next_row_groups_at_different_times(monkeypatch):
    monkeypatch.setattr(plan_module, "_NEAR_ROWS", 1600)
    monkeypatch.setattr(plan_module, "_SMALL_DOMAIN", 20)
    files = {domain: EventFiles(("a.parquet",), ((100,) * 16,)) for domain in range(8)}
    of_domains = epoch_chunks(files, dict.fromkeys(files, 1.0), 0, 0, shuffle_rows=160)
    begun = np.array([first for chunks in of_domains for first, _ in uses_of(chunks)])
    assert len(begun) == 128
    together = [((begun >= at) & (begun < at + 0.05)).sum() for at in np.arange(0.05, 1, 0.05)]
    assert max(together) <= 10  # of two row groups each at a time, sixteen


def test_a_small_domain_is_mixed_as_a_whole(monkeypatch):
    monkeypatch.setattr(plan_module, "_NEAR_ROWS", 4400)
    monkeypatch.setattr(plan_module, "_SMALL_DOMAIN", 20)
    files = {domain: EventFiles(("a.parquet",), ((100,) * 10,)) for domain in range(4)}
    for chunks in epoch_chunks(files, dict.fromkeys(files, 1.0), 0, 0, shuffle_rows=64):
        assert max(first for first, _ in uses_of(chunks)) < 0.5
