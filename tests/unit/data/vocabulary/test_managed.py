"""Rows that ids get and give back: what a slow reference says, increment after increment."""

import math
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foundrank.data.errors import UserError
from foundrank.data.vocabulary.encoding import ENCODINGS, TABLES
from foundrank.data.vocabulary.key_counts import ExactCounts
from foundrank.data.vocabulary.managed import ManagedIds
from foundrank.data.vocabulary.managed_rows import Rules, State
from foundrank.data.vocabulary.mapped import load_mapped, save_mapped
from foundrank.data.vocabulary.vocabulary import Vocabulary

LARGE = 2**63 + 11
KEYS = [0, 1, 2, 3, 5, 8, 13, 21, 34, LARGE]
COUNTED = st.dictionaries(st.sampled_from(KEYS), st.integers(1, 6), max_size=8)
TIME = st.one_of(st.integers(0, 30).map(float), st.just(-math.inf))
STREAM = st.lists(st.tuples(COUNTED, TIME), min_size=1, max_size=7)
RULES = st.builds(
    Rules, st.integers(1, 5), st.integers(1, 4), st.integers(1, 3), st.none() | st.integers(1, 9).map(float)
)


@dataclass
class Reference:
    """The rules as they are said, an id at a time."""

    rows: dict[int, int] = field(default_factory=dict)  # key -> row
    count: dict[int, int] = field(default_factory=dict)
    recent: dict[int, float] = field(default_factory=dict)
    last: dict[int, float] = field(default_factory=dict)
    owners: dict[int, list[int]] = field(default_factory=dict)  # row -> all it has had
    past: list[dict[int, int]] = field(default_factory=list)
    newest: float = -math.inf

    def increment(self, counted: dict[int, int], newest: float, rules: Rules) -> None:
        fade = 0.5 ** (1 / rules.window)
        for key in self.rows:
            self.recent[key] *= fade
            if self.newest == -math.inf:
                self.last[key] = newest
            if key in counted:
                self.count[key] += counted[key]
                self.recent[key] += counted[key]
                self.last[key] = max(self.last[key], newest)
        self.newest = max(self.newest, newest)
        without = {key for key in counted if key not in self.rows}
        self.past = [*self.past, counted][-rules.window :]
        for key in [*self.rows]:
            if rules.expire_after is not None and self.last[key] < newest - rules.expire_after:
                del self.rows[key]
        seen = {key: sum(of.get(key, 0) for of in self.past) for key in without}
        late = {k: sum(of.get(k, 0) * fade**ago for ago, of in enumerate(reversed(self.past))) for k in without}
        for key in sorted((k for k in seen if seen[k] >= rules.min_count), key=lambda k: (-late[k], k)):
            free = sorted(set(range(1, rules.rows + 1)) - set(self.rows.values()))
            if not free:
                fit = [k for k in self.rows if k not in seen]
                least = min(fit, key=lambda k: (self.recent[k], k), default=None)
                if least is None or self.recent[least] >= late[key]:
                    break
                free = [self.rows.pop(least)]
            self.rows[key], self.last[key], self.count[key] = free[0], newest, counted[key]
            self.owners.setdefault(free[0], []).append(key)
            self.recent[key] = late[key]

    def forget(self, keys: list[int]) -> None:
        for key in keys:
            self.rows.pop(key, None)
        self.past = [{key: count for key, count in of.items() if key not in keys} for of in self.past]


def arrays(counted: dict[int, int]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([*counted], np.uint64), np.array([*counted.values()], np.int64)


def rows_of(table: Vocabulary) -> dict[int, int]:
    keys = table.keys
    return dict(zip(keys.tolist(), table.lookup(keys).tolist(), strict=True))


@settings(max_examples=200)
@given(STREAM, RULES, st.data())
def test_the_map_is_what_a_slow_reference_says(stream, rules, data):
    reference, table, growing = Reference(), None, rules
    for number, (counted, newest) in enumerate(stream):
        growing = Rules(
            growing.rows + data.draw(st.integers(0, 1)) * (number > 0),
            rules.min_count,
            rules.window,
            rules.expire_after,
        )
        before, was = table, dict(reference.rows)
        new = ManagedIds.counted(growing, arrays(counted), newest)
        reference.increment(counted, newest, growing)
        table = new if before is None else before.extended(new)
        assert rows_of(table) == reference.rows
        assert len({*reference.rows.values()}) == len(reference.rows)  # no two ids share a row
        assert table.rows == growing.rows + 1
        keys = np.array([*reference.rows, 999], np.uint64)
        at = table.lookup(keys)
        assert table.counts[at].tolist() == [*(reference.count[key] for key in reference.rows), 0]
        assert table.counts.sum() == sum(reference.count[key] for key in reference.rows)  # nothing of former owners
        assert np.allclose(table.state.rows.recent[at][:-1], [reference.recent[key] for key in reference.rows])
        assert table.state.rows.last[at][:-1].tolist() == [reference.last[key] for key in reference.rows]
        if before is not None:
            left, got = table.changed(before)
            assert {*left} == {row for key, row in was.items() if reference.rows.get(key) != row}
            assert {*got} == {row for key, row in reference.rows.items() if was.get(key) != row}
        forgotten = data.draw(st.lists(st.sampled_from(KEYS), max_size=4))
        held = {row for key, row in reference.rows.items() if key in forgotten}
        known = held or any(key in forgotten for of in reference.past for key in of)
        left = table.without(np.array(forgotten, np.uint64))
        assert (left is not None) == bool(known)
        if left is not None:
            reference.forget(forgotten)
            assert rows_of(left) == reference.rows
            assert left.counts.sum() == sum(reference.count[key] for key in reference.rows)
            assert {*left.changed(table)[0]} == held  # they begin anew, and nobody has them
            assert not len(left.changed(table)[1])
            table = left


@settings(max_examples=60)
@given(STREAM, RULES)
def test_a_table_that_was_kept_goes_on_as_if_it_had_not_been(tmp_path_factory, stream, rules):
    folder = tmp_path_factory.mktemp("kept")
    table = ManagedIds.counted(rules, arrays(stream[0][0]), stream[0][1])
    for counted, newest in stream[1:]:
        new = ManagedIds.counted(rules, arrays(counted), newest)
        expected = table.extended(new)
        for each in (table, new):  # what is counted is kept, too
            each.save(folder / "id_item.parquet")
            again = TABLES["managed"].load(folder / "id_item.parquet")
            assert_same(again.state, each.state)
        table.save(folder / "id_item.parquet")
        plain = save_mapped(folder, {"id_item": table})
        mapped = load_mapped(folder, plain, {"id_item": "managed"})["id_item"]
        assert rows_of(mapped) == rows_of(table)
        assert mapped.counts.tolist() == table.counts.tolist()
        table = mapped.extended(new)
        assert_same(table.state, expected.state)


def assert_same(one: State, other: State) -> None:
    assert (one.rules, one.newest) == (other.rules, other.newest)
    for name, values in vars(one.rows).items():
        assert np.array_equal(values, getattr(other.rows, name)), name
        assert values.dtype == getattr(other.rows, name).dtype, name
    assert len(one.counted) == len(other.counted)
    for mine, others in zip(one.counted, other.counted, strict=True):
        assert all(map(np.array_equal, mine, others))


def test_the_parts_of_a_count_may_come_in_any_order():
    keys, counts = np.array([9, 2, 5, 7], np.uint64), np.array([1, 4, 4, 0])
    order = np.array([2, 0, 3, 1])
    one, other = (
        ManagedIds.counted(Rules(2), (keys, counts)),
        ManagedIds.counted(Rules(2), (keys[order], counts[order])),
    )
    assert rows_of(one) == rows_of(other) == {2: 1, 5: 2}
    assert_same(one.state, other.state)


def test_as_many_rows_as_ids_are_a_vocabulary():
    counted = arrays({5: 2, 9: 7, 3: 2, 8: 1})
    exact, managed = Vocabulary.from_counts(*counted, 2), ManagedIds.counted(Rules(9, 2), counted)
    assert rows_of(managed) == rows_of(exact)
    assert managed.counts[: exact.rows].tolist() == exact.counts.tolist()
    assert managed.rows == 10


def test_a_vocabulary_goes_on_as_managed_ids_in_its_rows():
    exact = Vocabulary.from_counts(*arrays({5: 2, 9: 7, 3: 1}), 1)
    new = ManagedIds.counted(Rules(4, expire_after=10.0), arrays({3: 1, 4: 1}), 100.0)
    begun = new.following(exact)
    table = begun.extended(new)
    assert rows_of(table) == rows_of(exact) | {4: 4}
    assert [each.tolist() for each in table.changed(exact)] == [[], [4]]
    later = table.extended(ManagedIds.counted(Rules(4, expire_after=10.0), arrays({4: 1}), 111.0))
    assert rows_of(later) == {4: 4}  # the others were last seen before 100
    assert [each.tolist() for each in later.changed(table)] == [[1, 2, 3], []]
    assert ManagedIds.counted(Rules(2), arrays({})).following(exact) is None  # too few rows
    assert not table.fits(ManagedIds.counted(Rules(3), arrays({})))


@settings(max_examples=40)
@given(COUNTED, RULES, TIME)
def test_a_first_increment_may_be_told_its_time_later(counted, rules, newest):
    assert_same(
        ManagedIds.counted(rules, arrays(counted)).at(newest).state,
        ManagedIds.counted(rules, arrays(counted), newest).state,
    )


def test_catalogs_ask_for_every_id():
    counts = ENCODINGS["managed"](rows=1).counts()
    counts.add(np.array([4, 4, 6], np.uint64), np.ones(3, bool))
    assert rows_of(counts.table()) == {4: 1}
    assert rows_of(counts.table(min_count=1)) == {4: 1, 6: 2}
    assert isinstance(counts, ExactCounts)


@pytest.mark.parametrize("harm", ["text", "column", "row", "key", "metadata", "ago"])
def test_a_damaged_file_is_told(harm, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "id_user.parquet"
    ManagedIds.counted(Rules(3), arrays({1: 1, 2: 2}), 5.0).save(path)
    table = pq.read_table(path)
    columns, settings_of = table.to_pydict(), table.schema.metadata
    if harm == "text":
        path.write_bytes(b"nothing")
    else:
        if harm == "column":
            del columns["recent"]
        elif harm == "row":
            columns["row"][0] = 9
        elif harm == "key":
            columns["key"][0] = columns["key"][1]
        elif harm == "ago":
            columns["given_up"][-1] = 4
        fields = [field for field in table.schema if field.name in columns]
        changed = pa.table(columns, schema=pa.schema(fields))
        pq.write_table(changed.replace_schema_metadata({} if harm == "metadata" else settings_of), path)
    with pytest.raises(UserError, match=r"id_user\.parquet"):
        ManagedIds.load(path)
