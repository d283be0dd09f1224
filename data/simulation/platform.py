"""A simulated platform: seven search and recommendation domains whose best possible AUC is known.

Every label is drawn from a probability that is written beside it, so the AUC of that probability is the most any
model can reach. What the probability is made of can be learned: a user's tastes show in the text, the segment and the
history, an item's topic in its title, its quality in brand and rating. Items and users keep arriving, and one domain
opens late.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import UserError
from ..storage.new_folder import check_new, new_folder
from .platform_texts import EXPERIMENT_YAML, KINDS, NOUNS, QUERIES_PER_TOPIC, QUERY_FAMILIES, TOPICS, query_texts
from .platform_world import (
    DAYS,
    DOMAINS,
    LIST_LENGTHS,
    MAKERS,
    Domain,
    Items,
    Users,
    list_column,
    make_items,
    make_users,
)

SPLIT_DAYS = {"train": (0, 96), "validation": (96, 108), "test": (108, 120)}
FIRST_DAY = np.datetime64("2026-01-01", "ms")
DAY_MS = 86_400_000
FIRST_QUERY = 9_001
HISTORY_LENGTH = 30
ROW_GROUP, PART = 8_192, 40_960  # rows
MIN_ROWS = 10_000
CHUNK = 4_096  # requests whose candidates are scored together


@dataclass(frozen=True)
class Requests:
    """Result lists of one domain, by time."""

    time: np.ndarray  # [Q] int64 milliseconds since the first day
    user: np.ndarray  # [Q]
    query: np.ndarray  # [Q], -1 in feeds
    length: np.ndarray  # [Q]


def simulate_platform(out: str | Path, rows: int = 600_000, seed: int = 2026) -> Path:
    """Write a simulated platform: events of seven domains, three catalogs and the experiment file.

    Splits follow time: the first 80 % of 120 days, the next 10 % and the last 10 %. The number of users grows with
    ``rows``, the number of items with its square root.

    Args:
        out: folder to make; it may exist if it is empty.
        rows: impressions over all domains, rounded within each; at least 10,000.
        seed: of everything drawn; the same seed gives the same files.

    Returns:
        The experiment file, ``out/experiment.yaml``.

    Raises:
        UserError: ``out`` holds something already, or ``rows`` is too small for seven domains.
    """
    out = Path(out)
    check_new(out)
    if rows < MIN_ROWS:
        raise UserError("--rows", f"{rows} is too few for seven domains", f"Give at least {MIN_ROWS}.")
    stages = [np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(2 + len(DOMAINS))]
    users = make_users(stages[0], rows // 150)
    items = make_items(stages[1], int(4_500 * (rows / 400_000) ** 0.5))
    requests, tables = [], []
    for d, rng in enumerate(stages[2:]):
        requests.append(_requests(rng, d, round(rows * DOMAINS[d].share), users))
        tables.append(_impressions(rng, d, requests[d], users, items))
    histories = _histories(requests, tables, items)

    with new_folder(out, last="experiment.yaml") as folder:
        _write(folder, users, items, requests, tables, histories)
    return out / "experiment.yaml"


def _requests(rng: np.random.Generator, d: int, rows: int, users: Users) -> Requests:
    domain = DOMAINS[d]
    length = rng.integers(LIST_LENGTHS[0], LIST_LENGTHS[1] + 1, size=rows // LIST_LENGTHS[0] + 1)
    length = length[: np.searchsorted(np.cumsum(length), rows) + 1]
    length[-1] -= length.sum() - rows
    by_hour = 1.2 + np.cos(2 * np.pi * (np.arange(24) - 19) / 24)
    hour = rng.choice(24, size=len(length), p=by_hour / by_hour.sum())
    time = rng.integers(domain.opens, DAYS, size=len(length)) * DAY_MS
    time = np.sort(time + hour * (DAY_MS // 24) + rng.integers(DAY_MS // 24, size=len(length)))

    # Only those who have joined by then: a draw from the first part of the weights, summed in order of joining.
    order = np.argsort(users.joined, kind="stable")
    reach = np.concatenate([[0.0], np.cumsum(users.weight[order, d])])
    joined = np.searchsorted(users.joined[order], time / DAY_MS, side="right")
    user = order[np.searchsorted(reach, rng.random(len(time)) * reach[joined], side="right") - 1]
    query = np.full(len(time), -1)
    if domain.family is not None:
        # People mostly search for what they like.
        wish = np.cumsum(0.7 * users.taste[user] + 0.3 / len(TOPICS), axis=1)
        topic = (rng.random((len(time), 1)) > wish[:, :-1]).sum(axis=1)
        common = 1 / np.arange(1, QUERIES_PER_TOPIC + 1) ** 0.5
        which = rng.choice(QUERIES_PER_TOPIC, size=len(time), p=common / common.sum())
        query = (QUERY_FAMILIES.index(domain.family) * len(TOPICS) + topic) * QUERIES_PER_TOPIC + which
    return Requests(time=time, user=user, query=query, length=length)


def _shown(rng: np.random.Generator, d: int, asked: Requests, users: Users, items: Items) -> np.ndarray:
    """Items the platform's policy lists, ``[Q, 10]``: by fame, taste and query, with noise; a fifth purely at random."""
    candidates = np.flatnonzero(items.in_domain[:, d])
    topic, noun = items.topic[candidates].T.astype(np.float32), items.noun[candidates]
    lists = []
    for start in range(0, len(asked.time), CHUNK):
        part = slice(start, start + CHUNK)
        wanted = 3.0 * users.taste[asked.user[part]]
        score = items.fame[candidates].astype(np.float32)[None, :]
        if DOMAINS[d].family is not None:
            query_topic, query_noun = _query_meaning(asked.query[part])
            wanted[np.arange(len(wanted)), query_topic] += 3.0
            score = score + 0.8 * (noun[None, :] == query_noun[:, None])
        age = asked.time[part, None] / DAY_MS - items.released[candidates][None, :]
        score = score + wanted.astype(np.float32) @ topic + 0.9 * (age < 14)
        score *= rng.random((len(wanted), 1)) > 0.2
        # Gumbel noise: the best ten are a draw without replacement from softmax(score).
        score = score - np.log(rng.standard_exponential(score.shape, dtype=np.float32) + np.float32(1e-9))
        score[age < 0] = -np.inf
        best = np.argpartition(-score, LIST_LENGTHS[1] - 1, axis=1)[:, : LIST_LENGTHS[1]]
        order = np.argsort(-np.take_along_axis(score, best, axis=1), axis=1)
        lists.append(candidates[np.take_along_axis(best, order, axis=1)])
    return np.concatenate(lists)


def _query_meaning(query: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Topic and noun of each query, from its place in `query_texts`."""
    return query // QUERIES_PER_TOPIC % len(TOPICS), query % QUERIES_PER_TOPIC % NOUNS


def _impressions(rng: np.random.Generator, d: int, asked: Requests, users: Users, items: Items) -> pa.Table:
    """One row per item shown, with labels; columns ``_list`` and ``_item`` are positions in this domain and world."""
    domain = DOMAINS[d]
    rank = np.arange(LIST_LENGTHS[1])
    inside = rank[None, :] < asked.length[:, None]
    item = _shown(rng, d, asked, users, items)[inside]
    lists = np.repeat(np.arange(len(asked.time)), asked.length)
    position = np.broadcast_to(rank + 1, inside.shape)[inside]
    user, query, time = asked.user[lists], asked.query[lists], asked.time[lists]
    hour = time % DAY_MS // (DAY_MS // 24)
    match = (users.taste[user] * items.topic[item]).sum(axis=1)
    style = users.style[user] * items.style[item]

    season = 0.08 * np.sin(np.pi * np.arange(len(TOPICS)) / 6 + 1.5 * np.pi * time[:, None] / (DAYS * DAY_MS))
    click = items.quality[item] + users.activity[user] + 0.25 * style - 0.5 * np.log(position)
    click += (season * items.topic[item]).sum(axis=1) + 0.15 * np.cos(2 * np.pi * (hour - 20) / 24)
    conversion = 1.0 * items.quality[item] - 0.6 * items.price[item] * users.thrift[user]
    if domain.family is None:
        click, conversion = click + 5.0 * match, conversion + 3.0 * match
    else:
        topic, noun = _query_meaning(query)
        about = items.topic[item, topic] * (0.85 + 0.15 * ((topic == items.main[item]) & (noun == items.noun[item])))
        click, conversion = click + 2.5 * match + 2.0 * about, conversion + 2.0 * match + 1.0 * about
    own, effect = _own_features(rng, domain, item, items)
    p_click = _with_rate(click + effect, domain.ctr)
    p_conversion = _with_rate(conversion + 1.5 * effect, domain.cvr, weight=p_click)
    clicked, converted = rng.random(len(item)) < p_click, rng.random(len(item)) < p_conversion
    return pa.table(
        {
            "_list": lists,
            "_item": item,
            "position": position.astype(np.int64),
            "hour": hour,
            **own,
            "click": clicked.astype(np.int8),
            "conversion": pa.array(converted.astype(np.int8), mask=~clicked),
            "p_click": p_click,
            "p_conversion": pa.array(p_conversion, mask=~clicked),
        }
    )


def _own_features(rng: np.random.Generator, domain: Domain, item: np.ndarray, items: Items):
    """The domain's own columns, and what they add to the logit of a click, ``[N]``."""
    count = len(item)
    if domain.name.startswith("shop"):
        band = np.digitize(items.price, [-0.84, -0.25, 0.25, 0.84])
        sellers = pa.array([f"s{m:03d}" for m in range(MAKERS * len(KINDS))])
        return {"seller": sellers.take(pa.array(items.maker[item])), "price_band": band[item]}, np.zeros(count)
    if domain.name.startswith("video"):
        words = np.array([[n.replace(" ", "_") for n in t.nouns] for t in TOPICS])
        words = np.stack([words[items.main, (items.noun + step) % NOUNS] for step in (0, 2, 3)], axis=1)
        hashtags = list_column(words, 1 + np.arange(len(words)) % 3)
        own = {"creator": items.maker[item], "duration": items.duration[item]}
        return own | {"hashtags": hashtags.take(pa.array(item))}, -0.3 * (np.log1p(items.duration[item]) - 5.5)
    if domain.name == "services_search":
        distance = np.round(rng.lognormal(1.5, 0.8, count), 1)
        return {"distance": distance}, -0.5 * (np.log1p(distance) - 1.7)
    if domain.name == "coupons_feed":
        discount = rng.choice([5, 10, 20, 30, 50], size=count)
        return {"discount": discount}, 0.5 * np.log(discount / 17.0)
    ahead = np.round(rng.lognormal(2.0, 0.8, count))
    return {"days_ahead": ahead}, -0.5 * (np.log1p(ahead) - 2.1)


def _with_rate(logit: np.ndarray, rate: float, weight: np.ndarray | None = None) -> np.ndarray:
    """Probabilities of ``logit + b``, b such that their (weighted) mean is ``rate``."""
    low, high = -20.0, 20.0
    for _ in range(40):
        middle = (low + high) / 2
        too_high = np.average(1 / (1 + np.exp(-logit - middle)), weights=weight) > rate
        low, high = (low, middle) if too_high else (middle, high)
    return 1 / (1 + np.exp(-logit - low))


def _histories(requests: list[Requests], tables: list[pa.Table], items: Items) -> list[dict[str, pa.ListArray]]:
    """Per domain and request: the last items its user clicked before it, oldest first, and the domains this was in."""
    span = DAYS * DAY_MS
    moments, clicked, places = [], [], []
    for place, (asked, table) in enumerate(zip(requests, tables, strict=True)):
        hit = table["click"].to_numpy() == 1
        lists = table["_list"].to_numpy()[hit]
        moments.append(asked.user[lists] * span + asked.time[lists])
        clicked.append(table["_item"].to_numpy()[hit])
        places.append(np.full(len(lists), place))
    # One sorted axis of (user, time): a request's history is a slice of it that ends before the request's own moment.
    moment, item, place = np.concatenate(moments), np.concatenate(clicked), np.concatenate(places)
    order = np.argsort(moment, kind="stable")
    moment, item, place = moment[order], item[order], place[order]
    ids, names = items.table["item"].combine_chunks(), pa.array([domain.name for domain in DOMAINS])
    histories = []
    for asked in requests:
        end = np.searchsorted(moment, asked.user * span + asked.time, side="left")
        begin = np.maximum(np.searchsorted(moment, asked.user * span, side="left"), end - HISTORY_LENGTH)
        offsets = np.concatenate([[0], np.cumsum(end - begin)])
        flat = np.arange(offsets[-1]) + np.repeat(begin - offsets[:-1], end - begin)
        what = {"history": ids.take(pa.array(item[flat])), "history_domains": names.take(pa.array(place[flat]))}
        offsets = pa.array(offsets, pa.int32())
        histories.append({name: pa.ListArray.from_arrays(offsets, values) for name, values in what.items()})
    return histories


def _write(root: Path, users: Users, items: Items, requests, tables, histories) -> None:
    (root / "catalogs").mkdir()
    queries = query_texts()
    query_table = pa.table({"query": np.arange(len(queries)) + FIRST_QUERY, "text": queries})
    for name, table in (("users", users.table), ("items", items.table), ("queries", query_table)):
        pq.write_table(table, root / "catalogs" / f"{name}.parquet", compression="zstd")
    first_list = 0
    for domain, asked, table, history in zip(DOMAINS, requests, tables, histories, strict=True):
        lists = table["_list"].to_numpy()
        columns = {
            "time": pa.array(FIRST_DAY + asked.time[lists]),
            "request": lists + first_list,
            "user": users.table["user"].to_numpy()[asked.user[lists]],
        }
        if domain.family is not None:
            columns["query"] = asked.query[lists] + FIRST_QUERY
        columns["item"] = items.table["item"].take(table["_item"])
        columns |= {name: values.take(pa.array(lists)) for name, values in history.items()}
        events = pa.table(columns | {name: table[name] for name in table.column_names if name[0] != "_"})
        first_list += len(asked.time)
        day = asked.time[lists] / DAY_MS
        for split, (begin, end) in SPLIT_DAYS.items():
            folder = root / "events" / domain.name / split
            folder.mkdir(parents=True)
            low, high = np.searchsorted(day, [begin, end])
            for number, start in enumerate(range(low, high, PART)):
                part = events.slice(start, min(PART, high - start))
                pq.write_table(
                    part, folder / f"part-{number:05d}.parquet", compression="zstd", row_group_size=ROW_GROUP
                )
    (root / "experiment.yaml").write_text(EXPERIMENT_YAML, encoding="utf-8")
