"""Who and what the simulated platform has: its domains, users and items."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from .platform_texts import AGE_BANDS, BRANDS, DEVICES, KINDS, NOUNS, REGIONS, STYLE_TAGS, TOPICS, item_titles

DAYS = 120
LIST_LENGTHS = (6, 10)  # fewest and most items of a result list
MAKERS = 20  # sellers or creators of each kind of item


@dataclass(frozen=True)
class Domain:
    """One surface: its share of all rows, its rates, when it opens, and the share of each kind of item it shows."""

    name: str
    share: float
    ctr: float
    cvr: float
    shows: dict[str, float]
    family: str | None = None  # of the queries; None: a feed
    opens: int = 0


DOMAINS = (
    Domain("shop_search", 0.35, 0.20, 0.25, {"product": 0.9}, family="product"),
    Domain("shop_feed", 0.25, 0.16, 0.22, {"product": 0.8, "video": 0.1}),
    Domain("video_search", 0.14, 0.22, 0.28, {"video": 0.95}, family="video"),
    Domain("video_feed", 0.16, 0.20, 0.24, {"video": 0.85, "product": 0.05}),
    Domain("services_search", 0.06, 0.18, 0.28, {"service": 1.0}, family="service"),
    Domain("coupons_feed", 0.033, 0.24, 0.30, {"coupon": 1.0, "service": 0.1}),
    Domain("events_feed", 0.007, 0.22, 0.26, {"event": 1.0, "video": 0.02}, opens=72),
)
KIND_SHARES = (0.46, 0.31, 0.09, 0.08, 0.06)  # in the order of KINDS


@dataclass(frozen=True)
class Users:
    taste: np.ndarray  # [U, K] how much they like each topic, sums to 1
    style: np.ndarray  # [U] which end of the style axis, -1 to 1
    thrift: np.ndarray  # [U] how much price matters
    activity: np.ndarray  # [U] added to every click's logit
    weight: np.ndarray  # [U, domains] how often they come
    joined: np.ndarray  # [U] day
    table: pa.Table


@dataclass(frozen=True)
class Items:
    topic: np.ndarray  # [I, K], sums to 1
    main: np.ndarray  # [I] main topic
    noun: np.ndarray  # [I] which of the topic's nouns
    style: np.ndarray  # [I] -1 or 1
    quality: np.ndarray  # [I]
    price: np.ndarray  # [I] log price, standardised
    maker: np.ndarray  # [I] seller or creator
    fame: np.ndarray  # [I] how readily the platform shows it
    released: np.ndarray  # [I] day
    in_domain: np.ndarray  # [I, domains] bool
    duration: np.ndarray  # [I] seconds
    table: pa.Table


def make_users(rng: np.random.Generator, count: int) -> Users:
    """``count`` users with tastes that lean the way of their segment."""
    age = rng.choice(len(AGE_BANDS), size=count, p=[0.2, 0.27, 0.23, 0.19, 0.11])
    region, device = rng.integers(len(REGIONS), size=count), rng.choice(len(DEVICES), size=count, p=[0.6, 0.12, 0.28])
    leaning = np.zeros((count, len(TOPICS)))
    for spread, names, segment in ((1.3, AGE_BANDS, age), (0.8, REGIONS, region), (0.5, DEVICES, device)):
        leaning += spread * rng.standard_normal((len(names), len(TOPICS)))[segment]
    # Three topics each, drawn without replacement by Gumbel noise on the segment's leaning.
    liked = np.argsort(-(leaning + rng.gumbel(size=leaning.shape)), axis=1)[:, :3]
    taste = np.zeros(leaning.shape)
    np.put_along_axis(taste, liked, np.array([[0.45, 0.45, 0.1]]), axis=1)
    comes = rng.random((count, len(DOMAINS))) < 0.65
    comes[~comes.any(axis=1), 0] = True
    newcomer = rng.random(count) < 0.3
    numbers = np.arange(count) + 100_001
    return Users(
        taste=taste,
        style=np.tanh(np.linspace(-0.9, 0.9, len(AGE_BANDS))[age] + 0.3 * rng.standard_normal(count)),
        thrift=np.linspace(1.5, 0.5, len(AGE_BANDS))[age],
        activity=(0.25 * rng.standard_normal(len(REGIONS)))[region] + 0.05 * rng.standard_normal(count),
        weight=comes * rng.lognormal(0.0, 0.4, size=(count, 1)),
        joined=np.where(newcomer, rng.uniform(0, DAYS, count), 0.0),
        table=pa.table(
            {
                "user": numbers,
                # The third one is for the history to tell.
                "about": [f"likes {TOPICS[a].name} and {TOPICS[b].name}" for a, b in liked[:, :2]],
                "age_band": pa.array(AGE_BANDS).take(pa.array(age)),
                "region": pa.array(REGIONS).take(pa.array(region)),
                "device": pa.array(DEVICES).take(pa.array(device)),
            }
        ),
    )


def make_items(rng: np.random.Generator, count: int) -> Items:
    """``count`` items of all kinds, with titles that tell their topics."""
    kind = np.sort(rng.choice(len(KINDS), size=count, p=KIND_SHARES))
    main, second = rng.integers(len(TOPICS), size=(2, count))
    second[(rng.random(count) < 0.75) | (second == main)] = -1
    topic = np.zeros((count, len(TOPICS)))
    np.put_along_axis(topic, main[:, None], np.where(second < 0, 1.0, 0.75)[:, None], axis=1)
    topic[second >= 0, second[second >= 0]] = 0.25
    noun, style, brand = (
        rng.integers(NOUNS, size=count),
        rng.integers(2, size=count),
        rng.integers(len(BRANDS), size=count),
    )
    maker = kind * MAKERS + rng.integers(MAKERS, size=count)
    rating = np.clip(np.round(4.0 + 0.5 * rng.standard_normal(count), 1), 1.0, 5.0)
    price = rng.standard_normal(count)
    quality = (0.3 * rng.standard_normal(len(BRANDS)))[brand] + (0.2 * rng.standard_normal(MAKERS * len(KINDS)))[maker]
    quality = quality + 0.7 * (rating - 4.0) + 0.05 * rng.standard_normal(count)

    # Half are there when their first domain opens (never fewer than a list needs), the others come evenly.
    opens = np.array([min(d.opens for d in DOMAINS if k in d.shows) for k in KINDS])[kind]
    rank = np.arange(count) - np.searchsorted(kind, kind)
    share = rank / np.bincount(kind)[kind]
    released = opens + (DAYS - opens) * np.maximum(0.0, share - 0.5) / 0.5
    released[rank < 2 * LIST_LENGTHS[1]] = opens[rank < 2 * LIST_LENGTHS[1]]
    shown = np.array([[d.shows.get(k, 0.0) for d in DOMAINS] for k in KINDS])[kind]

    names = [f"i{i:07d}" for i in range(count)]
    tag_style = np.where(rng.random((count, 3)) < 0.9, style[:, None], 1 - style[:, None])
    tags = np.array(STYLE_TAGS)[tag_style, rng.integers(len(STYLE_TAGS[0]), size=(count, 3))]
    return Items(
        topic=topic,
        main=main,
        noun=noun,
        style=2.0 * style - 1.0,
        quality=quality,
        price=price,
        maker=maker,
        fame=0.5 * rng.standard_normal(count) + 0.5 * quality,
        released=released,
        in_domain=rng.random(shown.shape) < shown,
        duration=np.round(rng.lognormal(5.5, 0.8, count)),
        table=pa.table(
            {
                "item": names,
                "title": item_titles(rng, kind, main, second, noun, style),
                "kind": pa.array(KINDS).take(pa.array(kind)),
                "category": pa.array([t.department for t in TOPICS]).take(pa.array(main)),
                "brand": pa.array(BRANDS).take(pa.array(brand)),
                "price": np.round(np.exp(3.5 + 0.7 * price), 2),
                "rating": rating,
                "tags": list_column(tags, rng.integers(1, 4, size=count)),
            }
        ),
    )


def list_column(values: np.ndarray, lengths: np.ndarray) -> pa.ListArray:
    """The first ``lengths[i]`` of each row of ``values``, as a list column."""
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    flat = values[np.arange(values.shape[1])[None, :] < lengths[:, None]]
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(flat))
