"""Tiny made-up sources with the columns of the real data sets, for the importers' tests."""

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from foundrank.data.sources.completejourney_experiment import DOMAINS


def write(folder: Path, **tables) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, columns in tables.items():
        pq.write_table(pa.table(columns), folder / f"{name}.parquet")
    return folder


def completejourney_source(folder: Path) -> Path:
    rng = np.random.default_rng(7)
    departments = [*DOMAINS, "FUEL"]
    products = [(100 + 20 * d + i, name) for d, name in enumerate(departments) for i in range(14)]
    n, start = 1800, datetime(2017, 1, 2, 8)
    hours = np.sort(rng.integers(0, 56 * 24, n))
    # The last four products of a department appear only in the last weeks: cold items.
    index = np.where(hours > 45 * 24, rng.integers(0, 14, n), rng.integers(0, 10, n))
    department = rng.integers(0, len(departments), n)
    shuffled = rng.permutation(n)
    id_of = np.array([p for p, _ in products]).reshape(-1, 14)
    product = id_of[department, index]
    product[5] = 1  # not in the catalog: the real log has such rows
    transactions = {
        "household_id": rng.integers(1, 25, n),
        "store_id": rng.integers(300, 304, n),
        "basket_id": np.arange(n),
        "product_id": product,
        "quantity": rng.integers(0, 3, n),
        "sales_value": rng.uniform(0.5, 9, n).round(2),
        "retail_disc": np.where(rng.random(n) < 0.4, 0.5, 0.0),
        "coupon_disc": np.zeros(n),
        "coupon_match_disc": np.zeros(n),
        "week": hours // (24 * 7) + 1,
        "transaction_timestamp": pa.array([start + timedelta(hours=int(h)) for h in hours], pa.timestamp("us")),
    }
    transactions = pa.table(transactions).take(pa.array(shuffled)).to_pydict()
    return write(
        folder,
        transactions=pa.table(transactions),
        products={
            "product_id": [p for p, _ in products],
            "manufacturer_id": [p % 5 for p, _ in products],
            "department": [d for _, d in products],
            "brand": ["Private" if p % 3 == 0 else "National" for p, _ in products],
            "product_category": [f"FRZN MISC {p % 4}" for p, _ in products],
            "product_type": [None if p % 9 == 0 else f"TYPE {p % 6}" for p, _ in products],
            "package_size": [None if p % 7 == 0 else f"{p % 4 + 1} OZ" for p, _ in products],
        },
        promotions={
            "product_id": [p for p, _ in products for w in range(1, 9)],
            "store_id": [300] * (8 * len(products)),
            "display_location": [str((p + w) % 4) for p, _ in products for w in range(1, 9)],
            "mailer_location": ["A" if (p + w) % 3 == 0 else "0" for p, _ in products for w in range(1, 9)],
            "week": [w for _ in products for w in range(1, 9)],
        },
        campaigns={"campaign_id": [1, 1, 2, 2], "household_id": [1, 2, 2, 999]},
        campaign_descriptions={
            "campaign_id": [1, 2],
            "campaign_type": ["Type A", "Type B"],
            "start_date": pa.array([datetime(2017, 1, 10), datetime(2017, 1, 20)], pa.timestamp("ms")),
            "end_date": pa.array([datetime(2017, 1, 24), datetime(2017, 3, 1)], pa.timestamp("ms")),
        },
        coupons={
            "coupon_upc": list(range(60)),
            "product_id": [p for p, _ in products[:60]],
            "campaign_id": [1 + p % 2 for p, _ in products[:60]],
        },
        demographics={"household_id": [1, 3], **{c: ["a", None] for c in (
            "age", "income", "home_ownership", "marital_status", "household_size", "household_comp", "kids_count")}},
    )  # fmt: skip


def amazon_search_source(folder: Path) -> Path:
    rng = np.random.default_rng(7)
    triples = {(f"U{u}", int(i % 5), f"I{i:02d}") for u in range(120) for i in rng.choice(60, 8, replace=False)}
    triples |= {(u, (q + 1) % 5, i) for u, q, i in sorted(triples)[::4]}  # one item found by two queries
    users, queries, asins = map(list, zip(*sorted(triples), strict=True))
    unbought = sorted(
        {(f"U{u}", f"I{i:02d}") for u in range(120) for i in range(0, 60, 3)} - set(zip(users, asins, strict=True))
    )
    official_users, official_asins = map(list, zip(*unbought, ("stranger", "I01"), strict=True))
    return write(
        folder,
        search_train={"user_id": users, "query_id": queries, "asin": asins, "relevance": [1] * len(users)},
        search_test={
            "user_id": official_users,
            "query_id": [0] * len(official_users),
            "asin": official_asins,
            "relevance": [1] * len(official_users),
        },
        queries={"query_id": list(range(5)), "query": [f"phone case {q}" for q in range(5)]},
        items={
            "asin": [f"I{i:02d}" for i in range(61)],
            "brand": [None if i % 4 == 0 else f"B{i % 3}" for i in range(61)],
            "categories": [["Phones", f"Cases {i % 5}"] for i in range(61)],
        },
    )


def movietweetings_source(folder: Path) -> Path:
    rng = np.random.default_rng(7)
    n = 900
    seconds = np.sort(rng.integers(0, 400_000, n))
    film = np.where(seconds > 320_000, rng.integers(20, 60, n), rng.integers(0, 40, n))
    columns = {
        "user_id": rng.integers(0, 40, n),
        "movie_id": 1000 + film,
        "rating": rng.integers(0, 11, n),
        "timestamp": pa.array([datetime(2013, 3, 1) + timedelta(seconds=int(s)) for s in seconds], pa.timestamp("us")),
    }
    return write(
        folder,
        ratings=pa.table(columns).take(pa.array(rng.permutation(n))),
        movies={
            "movie_id": [1000 + i for i in range(60)],
            "title": [f"Film {i}" for i in range(60)],
            "genres": [None if i == 3 else "Drama|Short" for i in range(60)],
            "year": [1990 + i % 24 for i in range(60)],
        },
    )


def amazon_beauty_source(folder: Path, users: int = 60) -> Path:
    """Users who go round a circle of 20 items, one after the other, from a random start; the rows in no order."""
    rng = np.random.default_rng(7)
    rows = [
        (user, 1 + (start + place) % 20, place)
        for user, start, length in zip(
            range(users), rng.integers(0, 20, users), rng.integers(5, 12, users), strict=True
        )
        for place in range(length)
    ]
    order = rng.permutation(len(rows))
    of_user, item, position = (np.array(column)[order] for column in zip(*rows, strict=True))
    return write(
        folder,
        interactions={"user_id": of_user, "item_id": item, "position": position},
        items={
            "item_id": list(range(1, 22)),
            "title": [None if i == 3 else f"Soap number {i}" for i in range(1, 22)],
            "attribute_ids": [[i % 3, 7] for i in range(1, 22)],
        },
    )


def amazon_office_source(folder: Path, users: int = 60) -> Path:
    """As `amazon_beauty_source`: each user's last two are test, the two before validation; a new item now and then in test."""
    rng = np.random.default_rng(7)
    rows = [
        (f"A{user}", 20 + user % 3 if left == 0 and user % 5 == 0 else (start + place) % 20, place, left)
        for user, start, length in zip(
            range(users), rng.integers(0, 20, users), rng.integers(5, 12, users), strict=True
        )
        for place, left in enumerate(range(length - 1, -1, -1))
    ]
    of_user, item, position, left = zip(*(rows[at] for at in rng.permutation(len(rows))), strict=True)
    return write(
        folder,
        interactions={
            "user_id": of_user,
            "item_id": item,
            "position": position,
            "split": ["test" if one < 2 else "validation" if one < 4 else "train" for one in left],
        },
        items={
            "item_id": list(range(23)),
            "title": [f"Pen number {i}" for i in range(23)],
            "description": [None if i == 3 else f"['<b>Writes</b> &amp; draws.', 'In {i} colors.']" for i in range(23)],
            "brand": [None if i == 4 else f"B{i % 3}" for i in range(23)],
            "categories": [None] * 23,
        },
    )


def interactions_source(folder: Path, users: int = 40) -> Path:
    """Who took what when, the rows in no order."""
    rng = np.random.default_rng(7)
    count = 25 * users
    columns = {
        "user_id": rng.integers(0, users, count),
        "item_id": [f"i{item}" for item in rng.integers(0, 30, count)],
        "timestamp": rng.integers(0, 4 * count, count),
        "rating": rng.integers(1, 6, count),
    }
    return write(folder, part=columns)


def sequences_source(folder: Path, users: int = 40) -> Path:
    """A list of items per user."""
    rng = np.random.default_rng(7)
    lists = [rng.integers(0, 30, length).tolist() for length in rng.integers(3, 9, users)]
    return write(folder, part={"user_id": list(range(users)), "items": lists})


SOURCES = {
    "amazon_beauty": amazon_beauty_source,
    "amazon_office": amazon_office_source,
    "completejourney": completejourney_source,
    "amazon_search": amazon_search_source,
    "movietweetings": movietweetings_source,
    "interactions": interactions_source,
    "sequences": sequences_source,
}
