"""Which items are together, against a slow count; and their places."""

import itertools
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from foundrank.data.arrow.ids import id_keys
from foundrank.data.codes.co_occurrence import Graph, graph_of, leading_places, pairs_of
from foundrank.data.config.experiment import Experiment
from foundrank.data.errors import UserError
from foundrank.data.events.check_events import check_events
from tests.coded_world import ITEMS, catalog, opened, raw_experiment, rounds, write_world

KEYS = id_keys(catalog(range(ITEMS))["item"])[0]
NEAR = 5
NUMBERS = itertools.count()


def graph(experiment: Experiment, ranks: int = 1) -> Graph:
    train = {name: splits["train"] for name, splits in check_events(experiment, ["train"]).items()}
    return graph_of([pairs_of(experiment, train, KEYS, slice(rank, None, ranks)) for rank in range(ranks)], len(KEYS))


def changed(world: Path, train: pa.Table, group: int = 1024, **others: pa.Table) -> str:
    """A change of the experiment: ``home`` has other events, in files that nobody has read yet."""
    files = {"train": train, **others}
    events = {split: world.parent / f"{split}.{next(NUMBERS)}.parquet" for split in files}
    for split, path in events.items():
        pq.write_table(files[split], path, row_group_size=group)
    return f"domains.home.events={{{', '.join(f'{split}: {path}' for split, path in events.items())}}}"


def as_counts(found: Graph) -> Counter[tuple[int, int]]:
    first = np.repeat(np.arange(len(found.first) - 1), np.diff(found.first))
    return Counter(
        {(int(one), int(two)): int(many) for one, two, many in zip(first, found.other, found.weight, strict=True)}
    )


def slowly(rows: list[tuple[list[int | None], int | None]], longest: int, own: bool) -> Counter[tuple[int, int]]:
    """Pairs in each row's past, with the item behind it where ``own``."""
    counts: Counter[tuple[int, int]] = Counter()
    for past, item in rows:
        sequence = [one for one in past if one is not None][-longest:] + [item] * (own and item is not None)
        for at, one in enumerate(sequence):
            for two in sequence[at + 1 : at + 1 + NEAR]:
                if one != two and one in range(ITEMS) and two in range(ITEMS):
                    counts[one, two] += 1
                    counts[two, one] += 1
    return counts


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory):
    return write_world(tmp_path_factory.mktemp("pairs"), users=20)


ROWS = st.lists(
    st.tuples(
        st.lists(st.one_of(st.integers(-1, ITEMS + 1), st.none()), max_size=9),
        st.one_of(st.integers(0, ITEMS + 1), st.none()),
    ),
    min_size=1,
    max_size=25,
)


@settings(max_examples=25)
@given(home=ROWS, feed=ROWS, longest=st.integers(1, 8), group=st.integers(1, 9), tasks=st.booleans())
def test_pairs_are_those_of_a_slow_count_on_any_ranks(world, home, feed, longest, group, tasks):
    tables = [
        pa.table(
            {
                "user": pa.array(range(len(rows)), pa.int64()),
                "item": pa.array([item for _, item in rows], pa.int64()),
                "history": pa.array([past for past, _ in rows], pa.list_(pa.int64())),
                "like": pa.array([1] * len(rows), pa.int64()),
            }
        )
        for rows in (home, feed)
    ]
    changes = [f"entities.user.history.max_length={longest}", changed(world, tables[0], group)]
    changes.append(changed(world, tables[1], group).replace("home", "feed", 1))
    if tasks:  # labels could say that the row's own item was not taken
        changes.append("domains.home.tasks={like: {label: like}}")
    experiment = opened(world, *changes)
    wanted = slowly(home, longest, not tasks) + slowly(feed, longest, True)
    for ranks in (1, 2, 3):
        found = graph(experiment, ranks)
        assert as_counts(found) == wanted
        of_each: Counter[int] = Counter()
        for (one, _), many in wanted.items():
            of_each[one] += many
        assert found.degrees.tolist() == [of_each[item] for item in range(ITEMS)]


def test_validation_and_test_have_no_part(world):
    few, many = rounds(20, 1), rounds(70, 9)
    before = as_counts(graph(opened(world, changed(world, few))))
    assert as_counts(graph(opened(world, changed(world, few, validation=many, test=many)))) == before
    assert as_counts(graph(opened(world, changed(world, many)))) != before


def test_domains_without_users_have_no_part_and_without_history_there_is_none(world):
    with_feed = as_counts(graph(opened(world)))
    table = pq.read_table(world.parent / "home.train.parquet").to_pylist()
    without = as_counts(graph(opened(world, "domains.feed.users=false")))
    assert without == slowly([(row["history"], row["item"]) for row in table], 5, True)
    assert without != with_feed
    raw = raw_experiment({"method": "random"}, next_item=None, history=None)
    raw["model"] = {"width": 8}
    raw["entities"]["user"].pop("history")
    for domain in raw["domains"].values():
        domain["tasks"] = {"like": {"label": "like"}}
    bare = write_world(world.parent / "bare", raw, users=3)
    with pytest.raises(UserError, match=r"rows have no history.*entities.user.history"):
        pairs_of(opened(bare), {}, KEYS, slice(None))


def test_pairs_of_some_items_are_those_of_the_graph(world):
    found = graph(opened(world))
    some = np.array([7, 3, 3, 39])
    row, other, weight = found.of(some)
    every = as_counts(found)
    got = [(int(some[at]), int(two), int(many)) for at, two, many in zip(row, other, weight, strict=True)]
    assert got == [
        (int(one), two, every[int(one), two]) for one in some for two in range(ITEMS) if every[int(one), two]
    ]
    assert (np.diff(row) >= 0).all()


def blocks(sizes: list[int], alone: int) -> Graph:
    """Groups of items, each together with all of its group; and some that are with no other."""
    pairs, begin, items = [], 0, sum(sizes) + alone
    for size in sizes:
        group = range(begin, begin + size)
        pairs += [one * items + two for one in group for two in group if one < two]
        begin += size
    return graph_of([(np.array(sorted(pairs)), np.full(len(pairs), 2))], items)


def test_places_have_length_one_and_tell_groups_apart():
    found = leading_places(blocks([12, 10, 8], 3), 3, torch.Generator().manual_seed(0))
    assert found.dtype == torch.float32
    assert found.shape == (33, 3)
    assert torch.equal(found[30:], torch.zeros(3, 3))
    torch.testing.assert_close(found[:30].norm(dim=1), torch.ones(30))
    near = found[:30] @ found[:30].T
    group = torch.tensor([0] * 12 + [1] * 10 + [2] * 8)
    same = group[:, None] == group
    assert near[same].min() > near[~same].max() + 0.3


def test_places_of_a_graph_with_fewer_items_than_directions_and_with_no_pair():
    assert leading_places(blocks([3], 0), 64, torch.Generator().manual_seed(0)).shape[0] == 3
    nothing = graph_of([(np.zeros(0, np.int64), np.zeros(0, np.int64))], 4)
    found = leading_places(nothing, 2, torch.Generator().manual_seed(0))
    assert torch.equal(found, torch.zeros(4, 2))
