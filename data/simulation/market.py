"""A simulated market: every kind of label, with its true expectation beside it, and what distorts logs.

Small and quickly learnt, so that what is measured is how a label is modelled and not how hard the world is: tastes follow a
user's segment and interests, an item's appeal its brand, rating and price, and no more than that.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import UserError
from ..storage.new_folder import check_new, new_folder
from .market_experiment import EXPERIMENT_YAML

MIN_ROWS = 10_000
SHARES = {"shelf": 0.4, "results": 0.25, "sampled": 0.3, "kiosk": 0.05}
"""Of all rows: items in a random order · a ranked list, where attention falls with the position · training rows with a part
of the negatives · visitors who are not known."""
SPLITS = {"train": (0.0, 0.7), "validation": (0.7, 0.8), "test": (0.8, 1.0)}
NEGATIVE_RATE = 0.2  # of the domain `sampled`
SEGMENTS, CATEGORIES, BRANDS = 6, 8, 10
LIST_LENGTHS = (4, 10)
LEVELS = 5  # of a rating, from 1
DWELL_SHAPE = 4.0  # of a gamma distribution: its deviation is half its mean
SPEND_DEVIATION = 0.6  # of the logarithm of what is spent, where something is
FIRST_DAY, DAYS = np.datetime64("2026-01-01", "ms"), 60
DAY_MS = 86_400_000
ROW_GROUP = 8_192

Array = np.ndarray


@dataclass(frozen=True)
class _World:
    """Users, items and what draws one to the other; catalogs in ``users`` and ``items``."""

    segment: Array  # [U]
    interest: Array  # [U, CATEGORIES], sums to 1
    category: Array  # [I]
    appeal: Array  # [I]
    dear: Array  # [I] standard normal, the logarithm of the price
    likes: Array  # [SEGMENTS, CATEGORIES]
    buys: Array  # [SEGMENTS, CATEGORIES]
    users: pa.Table
    items: pa.Table


def simulate_market(out: str | Path, rows: int = 200_000, seed: int = 2026) -> Path:
    """Writes a simulated market: events of four domains, two catalogs and the experiment file.

    Args:
        out: folder to make; it may exist if it is empty.
        rows: events over all domains, about; at least 10,000. The domain ``sampled`` is thinned out afterwards.
        seed: of everything drawn; the same seed gives the same files.

    Returns:
        The experiment file, ``out/experiment.yaml``.

    Raises:
        UserError: ``out`` holds something already, or ``rows`` is too small.
    """
    out = Path(out)
    check_new(out)
    if rows < MIN_ROWS:
        raise UserError("--rows", f"{rows} is too few for four domains", f"Give at least {MIN_ROWS}.")
    stages = [np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(1 + len(SHARES))]
    world = _make_world(stages[0], users=max(rows // 400, 200), items=200)
    with new_folder(out, last="experiment.yaml") as folder:
        (folder / "catalogs").mkdir()
        pq.write_table(world.users, folder / "catalogs" / "users.parquet", compression="zstd")
        pq.write_table(world.items, folder / "catalogs" / "items.parquet", compression="zstd")
        for (name, share), random in zip(SHARES.items(), stages[1:], strict=True):
            _write(folder / "events" / name, _events(random, name, round(rows * share), world))
        (folder / "experiment.yaml").write_text(EXPERIMENT_YAML, encoding="utf-8")
    return out / "experiment.yaml"


def _make_world(random: np.random.Generator, users: int, items: int) -> _World:
    segment = random.integers(SEGMENTS, size=users)
    chosen = np.argsort(random.random((users, CATEGORIES)), axis=1)[:, :3]
    weights = np.round(random.gamma(1.5, 2.0, size=chosen.shape) + 0.1, 1)
    interest = np.zeros((users, CATEGORIES))
    np.put_along_axis(interest, chosen, weights / weights.sum(1, keepdims=True), axis=1)
    category, brand = random.integers(CATEGORIES, size=items), random.integers(BRANDS, size=items)
    rating, dear = np.round(np.clip(random.normal(3.8, 0.6, items), 1, 5), 1), random.standard_normal(items)
    # Neither cheap nor dear is best: what a number in buckets can tell and a line cannot.
    appeal = random.normal(0, 0.4, BRANDS)[brand] + 0.6 * (rating - 3.8) - 0.35 * (dear**2 - 1)
    names = np.array([f"c{number}" for number in range(CATEGORIES)])
    return _World(
        segment=segment,
        interest=interest,
        category=category,
        appeal=appeal,
        dear=dear,
        likes=random.normal(0, 0.8, (SEGMENTS, CATEGORIES)),
        buys=random.normal(0, 0.6, (SEGMENTS, CATEGORIES)),
        users=pa.table(
            {
                "user": np.arange(users) + 1_001,
                "segment": pa.array([f"s{number}" for number in segment]),
                "interests": pa.array(names[chosen].tolist(), pa.list_(pa.string())),
                "interest_weights": pa.array(weights.tolist(), pa.list_(pa.float64())),
            }
        ),
        items=pa.table(
            {
                "item": pa.array([f"i{number:04d}" for number in range(items)]),
                "category": pa.array(names[category]),
                "brand": pa.array([f"b{number}" for number in brand]),
                "stars": rating,
                "price": np.round(np.exp(3.0 + 0.6 * dear), 2),
            }
        ),
    )


def _events(random: np.random.Generator, domain: str, rows: int, world: _World) -> pa.Table:
    """One row per item shown, by time; lists stay together."""
    length = random.integers(LIST_LENGTHS[0], LIST_LENGTHS[1] + 1, size=rows // LIST_LENGTHS[0] + 1)
    length = length[: np.searchsorted(np.cumsum(length), rows) + 1]
    lists = np.repeat(np.arange(len(length)), length)
    first = np.repeat(np.cumsum(length) - length, length)
    place = np.arange(len(lists)) - first
    user = random.integers(len(world.segment), size=len(length))[lists]
    item = random.integers(len(world.category), size=len(lists))
    drawn = _interest(world, user, item) if domain != "kiosk" else 0.4 + 1.2 * world.appeal[item]
    if domain == "results":  # those that the platform thinks well of come first, and it is half right
        thinks = drawn + random.normal(0, 1.0, len(item))
        order = np.lexsort((-thinks, lists))
        user, item, drawn = user[order], item[order], drawn[order]
    seen = -0.8 * np.log1p(place) if domain == "results" else np.zeros(len(item))
    time = np.sort(random.integers(DAYS * DAY_MS, size=len(length)))[lists]
    columns: dict[str, Array | pa.Array] = {
        "time": pa.array(FIRST_DAY + time),
        "request": lists,
        "user": world.users["user"].to_numpy()[user],
        "item": world.items["item"].take(pa.array(item)).combine_chunks(),
        "position": place + 1,
    }
    columns |= _labels(random, drawn, seen, _wish(world, user, item), world.dear[item])
    if domain == "kiosk":
        del columns["user"]
    return pa.table(dict(columns))


def _interest(world: _World, user: Array, item: Array) -> Array:
    """``[N]`` how much a user likes to look at an item."""
    category = world.category[item]
    return world.likes[world.segment[user], category] + 1.5 * world.interest[user, category] + world.appeal[item] - 0.3


def _wish(world: _World, user: Array, item: Array) -> Array:
    """``[N]`` how much a user who looks at an item wants it."""
    return world.buys[world.segment[user], world.category[item]] + 0.7 * world.appeal[item] - 0.3 * world.dear[item]


def _labels(
    random: np.random.Generator, drawn: Array, seen: Array, wish: Array, dear: Array
) -> Mapping[str, Array | pa.Array]:
    """Labels of every kind, each with its true expectation; ``seen`` is what a position adds to the logit of a click."""
    count = len(drawn)
    p_click, p_conversion = _sigmoid(drawn + seen - 1.0), _sigmoid(wish - 0.7)
    click, bought = random.random(count) < p_click, random.random(count) < p_conversion
    thresholds = np.array([-2.0, -1.0, 0.2, 1.5])
    above = _sigmoid(drawn[:, None] + 0.5 * wish[:, None] - thresholds)  # P(rating > level)
    rating = 1 + (random.random((count, 1)) < above).sum(1)
    dwell = np.exp(3.0 + 0.4 * drawn)
    p_spends, location = _sigmoid(wish + 0.2), 2.5 + 0.4 * wish + 0.5 * dear
    spent = np.exp(location + SPEND_DEVIATION * random.standard_normal(count)) * (random.random(count) < p_spends)
    units = np.exp(0.2 + 0.5 * wish)
    return {
        "click": click.astype(np.int8),
        "p_click": p_click,
        "p_click_first": _sigmoid(drawn - 1.0),
        "conversion": pa.array(bought.astype(np.int8), mask=~click),
        "p_conversion": p_conversion,
        "p_click_conversion": p_click * p_conversion,
        "rating": pa.array(rating.astype(np.int8), mask=random.random(count) < 0.3),  # not everyone rates
        "expected_rating": 1 + above.sum(1),
        "dwell": random.gamma(DWELL_SHAPE, dwell / DWELL_SHAPE),
        "expected_dwell": dwell,
        "spend": np.round(spent, 2),
        "expected_spend": p_spends * np.exp(location + SPEND_DEVIATION**2 / 2),
        "units": random.poisson(units),
        "expected_units": units,
    }


def _sigmoid(logit: Array) -> Array:
    return 1 / (1 + np.exp(-logit))


def _write(folder: Path, events: pa.Table) -> None:
    for split, (begin, end) in SPLITS.items():
        (folder / split).mkdir(parents=True)
        requests = events["request"].to_numpy()
        low, high = np.searchsorted(requests, np.array([begin, end]) * (requests[-1] + 1))
        part = events.slice(low, high - low)
        if folder.name == "sampled":
            part = _thinned(part, split)
        pq.write_table(part, folder / split / "part-00000.parquet", compression="zstd", row_group_size=ROW_GROUP)


def _thinned(events: pa.Table, split: str) -> pa.Table:
    """Of training, all clicks and a part of the other rows; and what each row stands for."""
    click = events["click"].to_numpy() > 0
    if split != "train":
        return events.append_column("stands_for", pa.array(np.ones(len(click))))
    kept = click | (np.random.default_rng(events.num_rows).random(len(click)) < NEGATIVE_RATE)
    stands_for = np.where(click, 1.0, 1 / NEGATIVE_RATE)
    return events.append_column("stands_for", pa.array(stands_for)).filter(pa.array(kept))
