"""Lists are never cut, and all that holds of rows holds of lists."""

from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from foundrank.data.batch.row_encoder import RowEncoder
from foundrank.data.config.load import load_experiment
from foundrank.data.counting.counting_pass import count
from foundrank.data.counting.list_marks import ListCounter, ListMarks
from foundrank.data.counting.statistics import Statistics
from foundrank.data.epoch.order import Position, deal, epoch_chunks, resume
from foundrank.data.epoch.reader import Reader
from foundrank.data.errors import UserError
from foundrank.data.events.event_files import EventFiles
from foundrank.data.schema.sizes import padded_rows
from foundrank.model.kinds import KINDS
from tests.tiny_world import experiment_dict, random_events, train_files, write_world

MODEST = settings(max_examples=40)
Place = tuple[int, int, int, int]  # domain, file, row group, row


class World:
    """Domains 0 and 2, whose rows are in lists that straddle row groups and files; and domain 1 without lists."""

    def __init__(self, lists: dict[int, list[int]], groups: dict[int, list[list[int]]]):
        """Args: position of a domain -> rows of its lists; rows of its row groups, the last of which takes what is left."""
        self.files, self.lists, self.list_of = {}, {}, {}
        for domain, of_files in groups.items():
            rows = sum(lists[domain]) if domain in lists else sum(map(sum, of_files))
            filled, left = [], rows
            for of_file in of_files:
                filled.append(
                    [taken for rows_of in of_file if (taken := min(rows_of, left)) >= 0 and (left := left - taken) >= 0]
                )
            filled[-1].append(left)
            self.files[domain] = EventFiles(tuple(f"f{f}" for f in range(len(filled))), tuple(map(tuple, filled)))
            places = [
                (domain, f, g, row)
                for f, of_file in enumerate(filled)
                for g, of_group in enumerate(of_file)
                for row in range(of_group)
            ]
            if domain in lists:
                begins = np.zeros(rows, bool)
                begins[np.cumsum([0, *lists[domain]])[:-1]] = True
                self.lists[domain] = ListMarks(begins, max(lists[domain]))
                self.list_of |= dict(zip(places, ((domain, int(n)) for n in np.cumsum(begins)), strict=True))
            else:
                self.list_of |= {place: (domain, n) for n, place in enumerate(places)}
        self.rows_of = Counter(self.list_of.values())

    def chunks(self, seed=0, epoch=0, shuffle_rows=50, weight=1.0):
        return epoch_chunks(self.files, dict.fromkeys(self.files, weight), seed, epoch, shuffle_rows, self.lists)

    def most(self, batch_size: int) -> int:
        return padded_rows(batch_size, len(self.files), [marks.longest for marks in self.lists.values()])

    def check_whole(self, places: list[Place]) -> None:
        """Each list among these rows is there whole, in the order of the files, its rows next to one another."""
        lists = [self.list_of[place] for place in places]
        at = 0
        while at < len(places):
            rows = self.rows_of[lists[at]]
            assert lists[at : at + rows] == [lists[at]] * rows
            assert places[at : at + rows] == sorted(places[at : at + rows])
            at += rows


GROUPS = st.lists(st.lists(st.integers(0, 40), max_size=4), min_size=1, max_size=3)
LENGTHS = st.lists(st.integers(1, 9), min_size=1, max_size=60)
WORLDS = st.builds(
    lambda first, second, groups, plain: World({0: first, 2: second}, {0: groups, 1: [[plain]], 2: [[7, 30, 2]]}),
    LENGTHS,
    LENGTHS,
    GROUPS,
    st.integers(0, 60),
)


@MODEST
@given(WORLDS, st.integers(0, 9), st.integers(1, 80), st.integers(9, 30), st.data())
def test_whole_lists_once_through_any_kills_and_rank_counts(world, seed, shuffle_rows, batch_size, data):
    chunks, position, seen = world.chunks(seed, 1, shuffle_rows), Position(1), []
    for of_domain in chunks:
        for chunk in of_domain:
            world.check_whole(chunk.locations())
    for life in range(data.draw(st.integers(1, 4))):
        ranks = data.draw(st.integers(1, 5))
        orders, first, here = resume(chunks, Position.from_dict(position.as_dict()), ranks, batch_size)
        steps = orders[0].steps
        assert {order.steps for order in orders} == {steps}
        last = steps if life == 3 else data.draw(st.integers(first, steps))
        for order in orders:
            for step in range(first, last):
                rows = order.locations(step)
                world.check_whole(rows)
                assert len(rows) <= world.most(batch_size)
                seen += rows
        position = here.after(ranks, last)
    orders, first, _ = resume(chunks, position, 2, batch_size)
    for order in orders:
        seen += [place for step in range(first, order.steps) for place in order.locations(step)]
    assert Counter(seen) == Counter(world.list_of.keys())


@MODEST
@given(WORLDS, st.integers(1, 4), st.integers(1, 4), st.integers(9, 30), st.data())
def test_resuming_on_as_many_ranks_goes_on_with_the_same_lists(world, earlier, ranks, batch_size, data):
    started, first, here = resume(world.chunks(), Position().after(earlier, 1), ranks, batch_size)
    killed = data.draw(st.integers(first, max(first, started[0].steps)))
    again, restart, there = resume(world.chunks(), here.after(ranks, killed), ranks, batch_size)
    assert (restart, there) == (killed, here)
    for a, b in zip(started, again, strict=True):
        assert a.steps == b.steps
        steps = [a.locations(step) for step in range(killed, a.steps)]
        assert steps == [b.locations(step) for step in range(restart, b.steps)]
        # What the reader takes of each domain, as many rows at a step as `taken` says, is what `locations` says of it.
        for domain, rest in enumerate(b.rest(restart)):
            rows = [place for chunk in rest for place in chunk.locations()]
            assert rows == [place for step in steps for place in step if place[0] == domain]


@MODEST
@given(WORLDS, st.sampled_from([0.3, 0.5, 1.7, 3.2]), st.integers(0, 5))
def test_weighted_epochs_go_round_whole_lists_evenly(world, weight, seed):
    seen: Counter[Place] = Counter(dict.fromkeys(world.list_of, 0))
    for epoch in range(4):
        for domain, chunks in zip(world.files, world.chunks(seed, epoch, weight=weight), strict=True):
            rows = [place for chunk in chunks for place in chunk.locations()]
            world.check_whole(rows)
            longest = world.lists[domain].longest if domain in world.lists else 1
            assert abs(len(rows) - weight * world.files[domain].rows) < longest + 1
            seen.update(rows)
            times = {n for place, n in seen.items() if place[0] == domain}
            assert not times or max(times) - min(times) <= 1


@MODEST
@given(WORLDS)
def test_a_domain_without_a_list_loss_keeps_its_order(world):
    plain = epoch_chunks(world.files, dict.fromkeys(world.files, 1.0), 0, 0, 50)
    assert world.chunks()[1] == plain[1]


@MODEST
@given(WORLDS, st.integers(9, 30))
def test_begins_says_where_lists_begin(world, batch_size):
    for order in deal(world.chunks(), 2, batch_size):
        for chunks in order.chunks:
            for chunk in chunks:
                begins, places = chunk.begins(chunk.order()), chunk.locations()
                if begins is None:
                    assert places[0][0] == 1
                    continue
                lists = [world.list_of[place] for place in places]
                assert begins.tolist() == [at == 0 or lists[at] != lists[at - 1] for at in range(len(lists))]


def test_lists_are_shuffled():
    world = World({0: [3] * 400}, {0: [[300, 300], [600]]})
    order = [world.list_of[place][1] for chunk in world.chunks(shuffle_rows=5000)[0] for place in chunk.locations()][
        ::3
    ]
    assert abs(np.corrcoef(np.arange(400), order)[0, 1]) < 0.3
    assert np.mean(np.abs(np.diff(order)) == 1) < 0.05


def write(folder, of_groups: list[list[list[str | None]]]) -> EventFiles:
    files, groups = [], []
    for f, of_file in enumerate(of_groups):
        path = folder / f"{f}.parquet"
        with pq.ParquetWriter(path, pa.schema({"page": pa.string()})) as writer:
            for of_group in of_file:
                writer.write_table(pa.table({"page": pa.array(of_group, pa.string())}))
        files.append(str(path))
        groups.append(tuple(len(of_group) for of_group in of_file))
    return EventFiles(tuple(files), tuple(groups))


def marks(events: EventFiles, most: int = 100) -> ListMarks:
    counter = ListCounter("shop", "page")
    for path, group in events.row_groups:
        counter.add(pq.ParquetFile(path).read_row_group(group)["page"], path, group)
    return counter.marks(most)


def test_lists_may_go_on_in_the_next_row_group_and_file(tmp_path):
    found = marks(write(tmp_path, [[["a", "a", "b"], ["b", "b"]], [["b", None, None], [], ["c", "d"]]]))
    assert found.begins.tolist() == [True, False, True, False, False, False, True, True, True, True]
    assert found.longest == 4


def test_no_rows_no_lists(tmp_path):
    assert len(marks(write(tmp_path, [[[]]])).begins) == 0


def test_a_list_whose_rows_lie_apart_is_refused(tmp_path):
    events = write(tmp_path, [[["a", "b"], ["c"]], [["d", "b"]]])
    with pytest.raises(UserError) as told:
        marks(events)
    assert f"{events.files[1]}: row group 0, row 1: column 'page'" in str(told.value)
    assert f"list 'b', which has rows at {events.files[0]}: row group 0, row 1, too" in str(told.value)


def test_a_list_longer_than_a_batch_is_refused(tmp_path):
    events = write(tmp_path, [[["a", "b", "b"], ["b", "b"]]])
    assert marks(events, 4).longest == 4
    with pytest.raises(UserError) as told:
        marks(events, 3)
    assert f"{events.files[0]}: row group 0, row 1: column 'page'" in str(told.value)
    assert "begins list 'b' of 4 rows, more than the 3 of training.batch_size" in str(told.value)


def test_a_batch_says_which_rows_make_a_list(tmp_path):
    events = random_events(0, {"find": 60, "home": 40, "new": 11})
    for rows in events.values():
        for at, row in enumerate(rows):
            row["row"] = None if at // 3 % 4 == 3 else at // 3
    write_world(tmp_path, events, files=2, group=7)
    changes = [f"domains.{name}.tasks.click.list_loss=softmax" for name in ("find", "home")]
    experiment = load_experiment(tmp_path, [*changes, "training.batch_size=12"], kinds=KINDS)
    files = train_files(experiment)
    count(experiment, files).save(tmp_path / "vocabulary")
    statistics = Statistics.load(tmp_path / "vocabulary")
    assert statistics.lists.keys() == {"find", "home"}
    encoder = RowEncoder(experiment, statistics)
    names = encoder.layout.domains
    by_position = {names.index(name): of_domain for name, of_domain in files.items()}
    lists = {names.index(name): of_domain for name, of_domain in statistics.lists.items()}
    padded = padded_rows(12, len(names), [3, 3])
    seen = 0
    for weight in (1.0, 2.5):  # a list may come twice, one right after the other
        chunks = epoch_chunks(by_position, dict.fromkeys(by_position, weight), 1, 0, 50, lists)
        for order in deal(chunks, 2, 12):
            for batch in Reader(encoder, by_position, padded, with_host=True).batches(order):
                seen += batch.rows
                if batch.lists is None:
                    assert not sum(batch.domain_lengths[:2])
                    continue
                assert batch.lists.lengths.sum() == batch.rows
                assert batch.lists.pairs == batch.lists.lengths.square().sum()
                moved = batch.to(torch.device("cpu")).lists
                assert moved is not None
                assert torch.equal(moved.of_row, batch.lists.of_row)
                at = 0
                for number, length in enumerate(batch.lists.lengths.tolist()):
                    assert batch.lists.of_row[at : at + length].tolist() == [number] * length
                    (domain,) = set(batch.domains[at : at + length].tolist())
                    (key,), (known,) = (
                        {*batch.host[name][at : at + length].tolist()} for name in ("list", "list_known")
                    )
                    of_domain = [row["row"] for row in events[names[domain]]]
                    assert length == (of_domain.count(key) if known and domain in lists else 1)
                    at += length
    assert abs(seen - (1 + 2.5) * 111) < 6


def test_damaged_marks_are_refused(tmp_path):
    write_world(tmp_path, random_events(0, {"find": 9, "home": 9, "new": 9}))
    experiment = load_experiment(tmp_path, ["domains.home.tasks.click.list_loss=softmax"], kinds=KINDS)
    count(experiment, train_files(experiment)).save(tmp_path / "vocabulary")
    path = tmp_path / "vocabulary" / "lists_of_home.npy"
    path.write_bytes(path.read_bytes()[:-1] + b"\x00")
    with pytest.raises(UserError, match=r"lists_of_home\.npy: is damaged"):
        Statistics.load(tmp_path / "vocabulary")


def test_a_list_loss_needs_a_list_column():
    raw = experiment_dict()
    raw["domains"]["home"]["tasks"]["click"]["list_loss"] = {"kind": "pairwise", "lambda_weights": True}
    assert load_experiment(raw, kinds=KINDS).domains["home"].whole_lists
    spent = {"spent": {"kind": "value", "label": "clicks", "list_loss": "softmax"}}
    with pytest.raises(UserError, match=r"home.tasks.spent.list_loss: orders rows by one output"):
        load_experiment(raw | {"domains": {"home": raw["domains"]["home"] | {"tasks": spent}}}, kinds=KINDS)
    chain = {"click": {"label": "click"}, "buy": {"label": "buy", "given": "click", "list_loss": "softmax"}}
    with pytest.raises(UserError, match=r"home.tasks.buy.list_loss: orders rows by .* given click"):
        load_experiment(raw | {"domains": {"home": raw["domains"]["home"] | {"tasks": chain}}}, kinds=KINDS)
    del raw["domains"]["home"]["list_column"]
    with pytest.raises(
        UserError, match=r"home.tasks.click.list_loss: is a loss of whole lists, and domains.home does not"
    ):
        load_experiment(raw, kinds=KINDS)
