"""Rows that ask for the next item, from users' items in order: whose turn it is, what came before, which items stay unseen."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from ..config.sections.domains import SPLITS
from ..errors import UserError
from .histories_and_negatives import slices
from .source_files import encode, write_events

TRAIN, VALIDATION, TEST = range(len(SPLITS))
_HELD_OUT = 2  # a user's last items: validation and test
_LEAST = 3  # a user's items, so that one is left to look back at in validation


@dataclass(frozen=True)
class Steps:
    """What N users' items are, each user's together and oldest first.

    Attributes:
        user: ``[N]`` int64, never falling.
        item: ``[N]`` int64 >= 0.
        moment: ``[N]`` int64, never falling within a user; equal ones happened at once.
    """

    user: np.ndarray
    item: np.ndarray
    moment: np.ndarray

    def __len__(self) -> int:
        return len(self.user)

    def take(self, at: np.ndarray) -> "Steps":
        """Those at ascending positions."""
        return Steps(self.user[at], self.item[at], self.moment[at])


def leave_one_out(user: np.ndarray) -> np.ndarray:
    """``[N]`` split of each step: a user's last is test, the one before validation, the rest training.

    A user of fewer than three steps is all training: there would be nothing to look back at.

    Args:
        user: ``[N]`` int64, never falling.
    """
    begin, end = _bounds(user)
    left = end - 1 - np.arange(len(user))
    held_out = (left < _HELD_OUT) & (end - begin >= _LEAST)
    return np.where(held_out, np.where(left == 0, TEST, VALIDATION), TRAIN)


def draw_unseen(item: np.ndarray, split: np.ndarray, share: float, seed: int) -> np.ndarray:
    """``[items]`` bool: which items training is not to see, drawn uniformly among those it would.

    Args:
        item: ``[N]`` int64 >= 0.
        split: ``[N]``.
        share: of the items of training, from 0 to below 1.
        seed: of the draw.

    Raises:
        UserError: it is no such share, or there are too few items to hold it out and keep some.
    """
    if not 0 <= share < 1:  # as NaN is not
        raise UserError("--unseen-items", f"is {share:g}", "Give a share of the items, from 0 to below 1.")
    unseen = np.zeros(int(item.max(initial=-1)) + 1, bool)
    trained = np.unique(item[split == TRAIN])
    if share > 0:
        count = round(share * len(trained))
        if not 0 < count < len(trained):
            raise UserError(
                "--unseen-items",
                f"{share:g} of {len(trained):,} items in training are {count:,}",
                "Give a share that leaves items on both sides.",
            )
        unseen[np.random.default_rng(seed).choice(trained, count, replace=False)] = True
    return unseen


def next_item_rows(
    steps: Steps, split: np.ndarray, unseen: np.ndarray, length: int
) -> dict[str, tuple[np.ndarray, pa.ListArray]]:
    """The rows of each split: positions of their items, and of what came before.

    Training has a row per user, whose item is the newest and whose past are the ``length`` items before it; a longer user has
    further rows, each taking over where the past of the one before ends, so that with ``positions: all`` each item is a target
    once. Unseen items are in none of this. Validation and test have a row per step of theirs; validation not those of unseen
    items. A past holds what happened strictly before the row's own moment, from all splits. Rows without any past are left out.

    Args:
        steps: N of them.
        split: ``[N]``: 0 train, 1 validation, 2 test.
        unseen: ``[items]`` bool.
        length: of a past, at most.

    Returns:
        Split -> ``([Q] int64 positions, [Q] lists of int64 positions, oldest first)``.
    """
    out = {}
    for number, name in enumerate(SPLITS):
        asked = (split == number) & ((number == TEST) | ~unseen[steps.item])
        kept = np.flatnonzero(asked) if number == TRAIN else np.arange(len(steps))
        held = steps.take(kept)
        first, begin = _first_of_moment(held), _bounds(held.user)[0]
        targets = _windows(held, first, begin, length) if number == TRAIN else np.flatnonzero(asked)
        targets = targets[first[targets] > begin[targets]]
        past = slices(kept, np.maximum(begin[targets], first[targets] - length), first[targets])
        out[name] = kept[targets], past
    return out


def write_next_item_rows(
    folder: Path,
    domain: str,
    rows: Mapping[str, tuple[np.ndarray, pa.ListArray]],
    columns: Mapping[str, pa.Array],
    item: str,
) -> dict[str, int]:
    """Write the events of each split: ``columns`` of the row's own step, and ``history``.

    Args:
        folder: the data set's.
        domain: its name.
        rows: of `next_item_rows`.
        columns: name -> ``[N]`` values of the steps.
        item: the column that histories are lists of.

    Returns:
        Split -> rows.

    Raises:
        UserError: a split has no row.
    """
    for split, (targets, _) in rows.items():
        if not len(targets):
            raise UserError(
                f"the {split} split",
                "has no row: a row needs an item, and one that its user had strictly before",
                "Give more events, another split, or fewer --unseen-items.",
            )
    for split, (targets, past) in rows.items():
        table = {name: values.take(pa.array(targets)) for name, values in columns.items()}
        items = columns[item].take(past.values)
        table["history"] = pa.ListArray.from_arrays(past.offsets, items)
        write_events(folder, domain, split, pa.table(table))
    return {split: len(targets) for split, (targets, _) in rows.items()}


def write_ordered(
    folder: Path, domain: str, events: pa.Table, split: np.ndarray, length: int, unseen_items: float, seed: int
) -> None:
    """Writes the rows that ask for the next item of events in order: ``user_id``, ``item_id`` and ``position``.

    Args:
        folder: the data set's.
        domain: its name.
        events: N of them, as of `Steps`.
        split: ``[N]``, and the rest as of `next_item_rows` and `draw_unseen`.
    """
    columns = {name: events[name].combine_chunks() for name in ("user_id", "item_id")}
    user, item = (encode(column)[0] for column in columns.values())
    steps = Steps(user, item, events["position"].to_numpy())
    rows = next_item_rows(steps, split, draw_unseen(item, split, unseen_items, seed), length)
    write_next_item_rows(folder, domain, rows, columns, "item_id")


def unseen_note(share: float) -> str:
    """A line for the head of an experiment file whose items were partly held out; nothing where none were."""
    if not share:
        return ""
    return f"# Training never sees {share:g} of its items (`--unseen-items {share:g}`): test alone asks for them.\n"


def repeats(steps: Steps, rows: Mapping[str, tuple[np.ndarray, pa.ListArray]]) -> float:
    """Share of the validation rows whose item is in their past."""
    targets, past = rows["validation"]
    row = np.repeat(np.arange(len(targets)), np.diff(past.offsets.to_numpy()))
    again = np.zeros(len(targets), bool)
    again[row[steps.item[past.values.to_numpy()] == steps.item[targets][row]]] = True
    return float(again.mean()) if len(again) else 0.0


def _bounds(user: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``[N]`` each: where the step's user begins, and where it ends."""
    return np.searchsorted(user, user), np.searchsorted(user, user, side="right")


def _first_of_moment(steps: Steps) -> np.ndarray:
    """``[N]``: the first step of the same user and moment."""
    new = np.ones(len(steps), bool)
    new[1:] = (steps.user[1:] != steps.user[:-1]) | (steps.moment[1:] != steps.moment[:-1])
    return np.maximum.accumulate(np.where(new, np.arange(len(steps)), 0))


def _windows(steps: Steps, first: np.ndarray, begin: np.ndarray, length: int) -> np.ndarray:
    """Ascending positions of training's targets: each user's last step, then the oldest of that one's past, and so on."""
    last = np.flatnonzero(np.append(steps.user[1:] != steps.user[:-1], True)) if len(steps) else np.zeros(0, np.int64)
    found = [last]
    while len(last):  # as often as the longest user has windows
        oldest = first[last] - length
        last = oldest[oldest > begin[last]]
        found.append(last)
    return np.sort(np.concatenate(found))
