"""A simulated feed with days: items and users come and go, tastes move a little every day, and on one day many at once.

For tables that grow and training by daily increments. Every event carries the probability that its click was drawn with, so the
best there is can be told day by day. Each day draws from streams of its own, and what depends on the number of days is the day
of the break alone: with as many rows a day and the same seed, a longer simulation begins with the files of a shorter one, up to
the earlier of their breaks.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import UserError
from ..storage.new_folder import check_new, new_folder
from .days_experiment import experiment_of
from .platform_texts import BRANDS, NOUNS, TOPICS, item_titles

MIN_ROWS, MIN_ROWS_OF_DAY = 10_000, 200
MIN_DAYS = 4  # one each to train, validate and test, and one more that can break
FIRST_DAY, DAY_MS = np.datetime64("2026-01-01", "D"), 86_400_000
FIRST_USER = 1_001
ITEM_LIFE, USER_LIFE = 20, 60  # days, on the mean
HALF_LIFE = 10.0  # days in which an item comes to be shown half as often
SKEW = 0.7  # of fame: the item of rank r is shown about r to the minus this as often as the first
SEGMENTS, BROKEN = 6, 4  # of which segments the break draws the tastes anew
KEPT = 0.98  # correlation of a taste with itself a day later
SEGMENT_TASTE, OWN_TASTE, BRAND_APPEAL, OWN_APPEAL = 0.9, 0.6, 0.3, 0.3  # deviations, in the logit of a click
BASE = -1.6
ROW_GROUP = 8_192

Array = np.ndarray


@dataclass(frozen=True)
class _Users:
    born: Array  # [U] day, from 0; before that of who was there at the start
    last: Array  # [U] day
    segment: Array  # [U]
    own: Array  # [U, K] what they like more or less than their segment does, when they join
    activity: Array  # [U] how often they come


@dataclass(frozen=True)
class _Items:
    born: Array  # [I] day
    last: Array  # [I] day
    topic: Array  # [I]
    brand: Array  # [I]
    own: Array  # [I] appeal that nothing tells of but clicks
    fame: Array  # [I] how often a new one is shown
    title: Array  # [I]


_Batch = TypeVar("_Batch", _Users, _Items)


def simulate_days(out: str | Path, rows: int = 300_000, seed: int = 2026, days: int = 30) -> Path:
    """Writes a simulated feed: events in a folder per day, two catalogs, what happened on each day, and the experiment file.

    Numbers of users and items alive follow the rows of a day. The break is on the first day after two thirds of them.

    Args:
        out: folder to make; it may exist if it is empty.
        rows: events over all days, the same number on each; at least 10,000 and 200 a day.
        seed: of everything drawn; the same seed gives the same files.
        days: at least 4.

    Returns:
        The experiment file, ``out/experiment.yaml``, which trains on the first days.

    Raises:
        UserError: ``out`` holds something already, or ``rows`` or ``days`` is too small.
    """
    out = Path(out)
    check_new(out)
    if days < MIN_DAYS:
        raise UserError(
            "--days", f"{days} is too few to train, validate, test and break on", f"Give at least {MIN_DAYS}."
        )
    least = max(MIN_ROWS, days * MIN_ROWS_OF_DAY)
    if rows < least:
        raise UserError("--rows", f"{rows} is too few for {days} days", f"Give at least {least}.")
    start, *each_day = np.random.SeedSequence(seed).spawn(1 + days)
    streams = [[np.random.default_rng(stream) for stream in day.spawn(3)] for day in each_day]
    opening, alive = np.random.default_rng(start), rows // days
    segments = SEGMENT_TASTE * opening.standard_normal((SEGMENTS, len(TOPICS)))
    appeal = BRAND_APPEAL * opening.standard_normal(len(BRANDS))
    users, items = _everyone(
        opening, [births for births, _, _ in streams], max(alive // 10, 100), max(alive // 25, 100)
    )

    own, when = users.own.copy(), -(-2 * days // 3)
    with new_folder(out, last="experiment.yaml") as folder:
        told = []
        for day, (_, random, breaking) in enumerate(streams):
            joined = np.searchsorted(users.born, day)  # who joins today comes with the tastes of today
            segments = _moved(random, segments, SEGMENT_TASTE)
            own[:joined] = _moved(random, own[:joined], OWN_TASTE)
            if day == when:
                broken = breaking.permutation(SEGMENTS)[:BROKEN]
                segments[broken] = SEGMENT_TASTE * breaking.standard_normal((BROKEN, len(TOPICS)))
            taste = segments[users.segment] + own
            events = _events(random, day, rows // days, users, items, taste, items.own + appeal[items.brand])
            _write_day(folder / "events" / "feed", day, events)
            told.append(_told(day, users, items, events) | {"break": day == when})
        (folder / "catalogs").mkdir()
        pq.write_table(_users_table(users), folder / "catalogs" / "users.parquet", compression="zstd")
        pq.write_table(_items_table(items), folder / "catalogs" / "items.parquet", compression="zstd")
        pq.write_table(pa.Table.from_pylist(told), folder / "days.parquet", compression="zstd")
        (folder / "experiment.yaml").write_text(experiment_of(FIRST_DAY, days), encoding="utf-8")
    return out / "experiment.yaml"


def _everyone(
    opening: np.random.Generator, births: Sequence[np.random.Generator], users: int, items: int
) -> tuple[_Users, _Items]:
    """Who is there on the day before the first, and who is born on each day, in order of birth; about as many as leave."""
    came, made = [_new_users(opening, users, -1)], [_new_items(opening, items, -1)]
    for day, random in enumerate(births):
        came.append(_new_users(random, max(random.poisson(users / USER_LIFE), 1), day))
        made.append(_new_items(random, max(random.poisson(items / ITEM_LIFE), 1), day))
    return _joined(came), _joined(made)


def _joined(batches: Sequence[_Batch]) -> _Batch:
    kind = type(batches[0])
    columns = {f.name: np.concatenate([getattr(batch, f.name) for batch in batches]) for f in fields(kind)}
    return kind(**columns)


def _lives(random: np.random.Generator, count: int, day: int, life: int) -> dict[str, Array]:
    """First and last days. Lives forget how long they have lasted, so those of the start may have begun at any time before."""
    born = np.full(count, day)
    if day < 0:
        born = np.sort(born - random.exponential(life, count).astype(np.int64))
    return {"born": born, "last": day + random.exponential(life, count).astype(np.int64)}


def _new_users(random: np.random.Generator, count: int, day: int) -> _Users:
    return _Users(
        **_lives(random, count, day, USER_LIFE),
        segment=random.integers(SEGMENTS, size=count),
        own=OWN_TASTE * random.standard_normal((count, len(TOPICS))),
        activity=random.lognormal(0.0, 0.7, count),
    )


def _new_items(random: np.random.Generator, count: int, day: int) -> _Items:
    topic = random.integers(len(TOPICS), size=count)
    noun, style = random.integers(NOUNS, size=count), random.integers(2, size=count)
    titles = item_titles(random, np.zeros(count, np.int64), topic, np.full(count, -1), noun, style)
    return _Items(
        **_lives(random, count, day, ITEM_LIFE),
        topic=topic,
        brand=random.integers(len(BRANDS), size=count),
        own=OWN_APPEAL * random.standard_normal(count),
        fame=np.maximum(random.random(count), 1e-3) ** -SKEW,
        title=np.array(titles),
    )


def _moved(random: np.random.Generator, taste: Array, deviation: float) -> Array:
    """Tastes a day later: a step of a random walk that is drawn back to 0, so that they stay as wide as they are."""
    return KEPT * taste + (1 - KEPT**2) ** 0.5 * deviation * random.standard_normal(taste.shape)


def _alive(who: _Users | _Items, day: int) -> Array:
    return (who.born <= day) & (day <= who.last)


def _events(
    random: np.random.Generator, day: int, rows: int, users: _Users, items: _Items, taste: Array, appeal: Array
) -> pa.Table:
    """One row per item shown, by time; ``taste`` ``[U, K]`` and ``appeal`` ``[I]`` are of this day."""
    shown = items.fame * 0.5 ** ((day - items.born) / HALF_LIFE)
    item = _drawn(random, rows, np.where(_alive(items, day), shown, 0.0))
    user = _drawn(random, rows, np.where(_alive(users, day), users.activity, 0.0))
    p_click = 1 / (1 + np.exp(-(BASE + taste[user, items.topic[item]] + appeal[item])))
    time = (FIRST_DAY + day).astype("datetime64[ms]") + np.sort(random.integers(DAY_MS, size=rows))
    return pa.table(
        {
            "time": pa.array(time),
            "date": pa.array([str(FIRST_DAY + day)]).take(pa.array(np.zeros(rows, np.int64))),  # for metrics by day
            "user": user + FIRST_USER,
            "item": _item_ids(item),
            "click": (random.random(rows) < p_click).astype(np.int8),
            "p_click": p_click,
        }
    )


def _drawn(random: np.random.Generator, count: int, weights: Array) -> Array:
    """``[count]`` places, each as often as it weighs; those of no weight never."""
    reach = np.cumsum(weights)
    return np.searchsorted(reach, random.random(count) * reach[-1], side="right")


def _told(day: int, users: _Users, items: _Items, events: pa.Table) -> dict[str, Any]:
    return {
        "day": (FIRST_DAY + day).item(),
        "events": events.num_rows,
        "live_items": int(_alive(items, day).sum()),
        "new_items": int((items.born == day).sum()),
        "died_items": int((items.last == day - 1).sum()),
        "live_users": int(_alive(users, day).sum()),
        "new_users": int((users.born == day).sum()),
        "left_users": int((users.last == day - 1).sum()),
        "mean_p_click": float(events["p_click"].to_numpy().mean()),
    }


def _write_day(folder: Path, day: int, events: pa.Table) -> None:
    folder = folder / f"day={FIRST_DAY + day}"
    folder.mkdir(parents=True)
    pq.write_table(events, folder / "part-00000.parquet", compression="zstd", row_group_size=ROW_GROUP)


def _item_ids(numbers: Array) -> pa.Array:
    return pa.array([f"i{number:07d}" for number in range(numbers.max() + 1)]).take(pa.array(numbers))


def _users_table(users: _Users) -> pa.Table:
    return pa.table(
        {
            "user": np.arange(len(users.born)) + FIRST_USER,
            "segment": pa.array([f"s{number}" for number in users.segment]),
            "born": pa.array(FIRST_DAY + users.born),
            "last_day": pa.array(FIRST_DAY + users.last),
        }
    )


def _items_table(items: _Items) -> pa.Table:
    return pa.table(
        {
            "item": _item_ids(np.arange(len(items.born))),
            "title": pa.array(items.title),
            "category": pa.array([topic.department for topic in TOPICS]).take(pa.array(items.topic)),
            "brand": pa.array(BRANDS).take(pa.array(items.brand)),
            "born": pa.array(FIRST_DAY + items.born),
            "last_day": pa.array(FIRST_DAY + items.last),
        }
    )
