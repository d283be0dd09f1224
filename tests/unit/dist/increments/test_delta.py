"""What has changed of ids, and a table of them after it."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from foundrank.data.vocabulary.managed import ManagedIds
from foundrank.data.vocabulary.managed_rows import Rules
from foundrank.data.vocabulary.row_counts import RowCounts
from foundrank.data.vocabulary.vocabulary import HashedIds, Vocabulary
from foundrank.dist.increments.delta import _changed_ids, with_changes

COUNTED = st.dictionaries(st.integers(0, 12), st.integers(1, 5), max_size=8)


def arrays(counted: dict[int, int]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([*counted], np.uint64), np.array([*counted.values()], np.int64)


@settings(max_examples=80)
@given(st.lists(COUNTED, min_size=1, max_size=5), st.sampled_from(["vocab", "managed", "hash"]))
def test_changes_lead_from_one_table_to_the_next(stream, way):
    def counted(of: dict[int, int]) -> Vocabulary | HashedIds:
        if way == "hash":
            return HashedIds(
                RowCounts.of(np.bincount(np.array([*of], int) % 4 + 1, [*of.values()], 6).astype(np.int64))
            )
        return Vocabulary.from_counts(*arrays(of), 1) if way == "vocab" else ManagedIds.counted(Rules(4), arrays(of))

    table = counted(stream[0])
    followed = with_changes(None, _changed_ids(None, table))
    for more in stream[1:]:
        following = table.extended(counted(more))
        changes = _changed_ids(table, following)
        followed, table = with_changes(followed, changes), following
        assert changes.num_rows <= 2 * len(more) + 1 or way == "managed"
    assert followed.rows == table.rows
    keys = np.arange(14, dtype=np.uint64)
    assert followed.lookup(keys).tolist() == table.lookup(keys).tolist()
    rows = np.arange(table.rows)
    assert followed.counts[rows].tolist() == table.counts[rows].tolist()
