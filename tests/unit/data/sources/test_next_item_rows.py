"""Rows that ask for the next item, beside an obvious reference."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundrank.data.errors import UserError
from foundrank.data.sources.next_item_rows import (
    TEST,
    TRAIN,
    VALIDATION,
    Steps,
    draw_unseen,
    leave_one_out,
    next_item_rows,
    repeats,
)


def steps_of(events: list[tuple[int, int, int]]) -> Steps:
    events = sorted(events, key=lambda event: (event[0], event[2]))
    columns = np.array(events, np.int64).reshape(-1, 3).T
    return Steps(columns[0], columns[1], columns[2])


def reference(steps: Steps, split: np.ndarray, unseen: np.ndarray, length: int) -> dict[str, list]:
    """What `next_item_rows` gives, user by user."""
    out: dict[str, list] = {"train": [], "validation": [], "test": []}
    for user in dict.fromkeys(steps.user.tolist()):
        own = [at for at in range(len(steps)) if steps.user[at] == user]
        kept = [at for at in own if split[at] == TRAIN and not unseen[steps.item[at]]]
        at = kept[-1] if kept else None
        while at is not None:
            past = [one for one in kept if steps.moment[one] < steps.moment[at]][-length:]
            if past:
                out["train"].append((at, past))
            at = past[0] if len(past) == length else None
        for name, number in (("validation", VALIDATION), ("test", TEST)):
            for at in own:
                past = [one for one in own if steps.moment[one] < steps.moment[at]][-length:]
                if split[at] == number and past and (number == TEST or not unseen[steps.item[at]]):
                    out[name].append((at, past))
    return {name: sorted(rows) for name, rows in out.items()}


@given(
    events=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5), st.integers(0, 12)), min_size=1, max_size=60),
    length=st.integers(1, 5),
    unseen=st.lists(st.booleans(), min_size=6, max_size=6),
    by_user=st.booleans(),
)
def test_rows_are_those_of_the_reference(events, length, unseen, by_user):
    steps = steps_of(events)
    split = leave_one_out(steps.user) if by_user else np.searchsorted([6, 9], steps.moment, side="right")
    found = next_item_rows(steps, split, np.array(unseen), length)
    wanted = reference(steps, split, np.array(unseen), length)
    for name, (targets, past) in found.items():
        assert list(zip(targets.tolist(), past.to_pylist(), strict=True)) == wanted[name]


def test_with_positions_all_every_item_but_the_first_is_a_target_once():
    steps = steps_of([(0, item, item) for item in range(23)])
    rows = next_item_rows(steps, np.zeros(23, np.int64), np.zeros(23, bool), 5)
    targets, past = rows["train"]
    asked = [*targets.tolist(), *(one for of_row in past.to_pylist() for one in of_row[1:])]
    assert sorted(asked) == list(range(1, 23))


def test_a_users_last_two_are_held_out_where_something_is_left_to_look_back_at():
    assert leave_one_out(np.array([0, 1, 1, 2, 2, 2, 3, 3, 3, 3])).tolist() == [0, 0, 0, 0, 1, 2, 0, 0, 1, 2]


def test_unseen_items_are_drawn_among_those_of_training():
    item, split = np.arange(100) % 50, (np.arange(100) % 50 >= 40).astype(np.int64)
    unseen = draw_unseen(item, split, 0.25, 3)
    assert unseen.sum() == 10
    assert not unseen[40:].any()
    assert (draw_unseen(item, split, 0.25, 4) != unseen).any()
    assert not draw_unseen(item, split, 0.0, 3).any()


@pytest.mark.parametrize("share", [float("nan"), -0.25, 1.0])
def test_a_share_that_is_none_is_refused(share):
    with pytest.raises(UserError, match=f"--unseen-items: is {share:g}. Give a share"):
        draw_unseen(np.arange(100), np.zeros(100, np.int64), share, 3)


def test_repeats_are_told():
    steps = steps_of([(0, 1, 0), (0, 2, 1), (0, 1, 2), (0, 3, 3), (1, 1, 0), (1, 2, 1), (1, 3, 2), (1, 3, 3)])
    rows = next_item_rows(steps, leave_one_out(steps.user), np.zeros(4, bool), 5)
    assert repeats(steps, rows) == pytest.approx(0.5)
