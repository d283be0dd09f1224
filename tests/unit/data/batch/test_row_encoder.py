"""The encoder and the batch against a slow reference that goes row by row through plain Python values."""

import math
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from foundrank.data.arrow.ids import hash_rows, id_keys
from foundrank.data.batch.row_encoder import RowEncoder
from foundrank.data.batch.rows import concatenate
from foundrank.data.config.load import load_experiment
from foundrank.data.counting.counting_pass import count
from foundrank.data.errors import UserError
from foundrank.model.kinds import KINDS
from tests.tiny_world import SCHEMAS, catalogs, encoder_of, random_events, text_vectors, train_files, write_world

DOMAINS = tuple(SCHEMAS)
SEARCH = {"find"}
TASKS = {"find": ("click", "buy"), "home": ("click",), "new": ("like", "click")}
COUNTS = {"find": 17, "home": 14, "new": 9}


def key_of(value) -> int:
    return int(id_keys(pa.array([value]))[0][0])


def ranked(values, min_count=1) -> dict:
    """Value -> its table row: the most frequent first, ties by key, rare ones absent."""
    counts = Counter(v for v in values if v is not None)
    kept = sorted((v for v in counts if counts[v] >= min_count), key=lambda v: (-counts[v], key_of(v)))
    return {v: row for row, v in enumerate(kept, 1)}


def hashed(value, buckets: int) -> int:
    return int(hash_rows(np.array([key_of(value)], np.uint64), buckets)[0])


def standardise(values) -> tuple[float, float]:
    values = [v for v in values if v is not None]
    return (float(np.mean(values)), float(np.std(values)) or 1.0) if values else (0.0, 1.0)


@dataclass
class Expected:
    """What one row of a batch must hold."""

    bags: dict[str, list[int]] = field(default_factory=dict)
    dense: dict[str, float] = field(default_factory=dict)
    vectors: dict[str, np.ndarray | None] = field(default_factory=dict)
    counts: list[float] = field(default_factory=list)
    labels: dict[str, float] = field(default_factory=dict)


class Reference:
    """Encodes one event at a time, from the same events and catalogs."""

    def __init__(self, events, seed: int):
        of, every = catalogs(seed), [row for rows in events.values() for row in rows]
        self.users = {row["user_id"]: row for row in of["users"]}
        self.items = {row["item_id"]: row for row in of["items"]}
        self.texts = text_vectors(of["items"])
        self.seen = {name: Counter(row[name] for row in every) for name in ("user", "item")}
        self.queries = Counter(hashed(r["query"], 7) for r in events["find"] if r["query"] is not None)
        shown = [self.items[r["item"]] for r in every if r["item"] in self.items]
        seers = [self.users[r["user"]] for r in every if r["user"] in self.users]
        self.rows = {
            "user": ranked(r["user"] for r in every),
            "item": ranked((r["item"] for r in every), 2),
            "hour": ranked(r["hour"] for r in every),
            "slot": ranked(r["slot"] for r in events["find"] + events["home"]),
            "intent": ranked(r["intent"] for r in events["find"]),
            "segment": ranked(u["segment"] for u in seers),
            "brand": ranked(i["brand"] for i in shown),
            "tags": ranked(t for i in shown for t in [t for t in i["tags"] or [] if t is not None][-2:]),
        }

        def log(value):
            return None if value is None else math.log1p(value)

        self.log = log
        met = {name: set(self.seen[name]) for name in ("user", "item")}
        self.scales = {
            "rank": standardise(r["rank"] for r in events["find"]),
            "clicks": standardise(log(r["clicks"]) for r in every),
            "age": standardise(u["age"] for key, u in self.users.items() if key in met["user"]),
            "price": standardise(log(i["price"]) for key, i in self.items.items() if key in met["item"]),
        }

    def encode(self, domain: str, row) -> Expected:
        out = Expected()
        query = row["query"] if domain in SEARCH else None
        user, item = self.users.get(row["user"], {}), self.items.get(row["item"], {})

        def bag(name, value):
            return [] if value is None else [self.rows[name].get(value, 0)]

        def number(name, value):
            mean, deviation = self.scales[name]
            return 0.0 if value is None else (value - mean) / deviation

        history = [v for v in row["history"] or [] if v is not None][-3:]
        matched = [v for v in row["matched"] or [] if v is not None] if domain == "find" else []
        tags = [t for t in item.get("tags") or [] if t is not None][-2:]
        out.bags = {
            "id_user": bag("user", row["user"]),
            "id_item": bag("item", row["item"]),
            "id_query": [] if query is None else [hashed(query, 7)],
            "history": [self.rows["item"][v] for v in history if v in self.rows["item"]],
            "feature_segment": bag("segment", user.get("segment")),
            "feature_brand": bag("brand", item.get("brand")),
            "feature_tags": [self.rows["tags"].get(t, 0) for t in tags],
            "feature_intent": bag("intent", row["intent"] if domain in SEARCH else None),
            "feature_hour": bag("hour", row["hour"]),
            "feature_matched": [hashed(v, 5) for v in matched],
            "feature_slot": bag("slot", row["slot"] if domain in ("find", "home") else None),
        }
        out.dense = {
            "age": number("age", user.get("age")),
            "clicks": number("clicks", self.log(row["clicks"])),
            "price": number("price", self.log(item.get("price"))),
            "rank": number("rank", row["rank"] if domain == "find" else None),
        }
        past = [self.texts[v] for v in history if v in self.texts]
        out.vectors = {
            "text_item": self.texts.get(row["item"]),
            "text_history": np.mean(np.array(past, np.float64), axis=0) if past else None,
            "text_query": row["query_vector"] if domain in SEARCH else None,
            "feature_image": item.get("image"),
            "feature_picture": row["picture"] if domain == "home" else None,
        }
        known_items = self.seen["item"] if row["item"] in self.rows["item"] else {}
        out.counts = [
            -1 if row["user"] is None else self.seen["user"].get(row["user"], 0),
            -1 if query is None else self.queries.get(hashed(query, 7), 0),
            -1 if row["item"] is None else known_items.get(row["item"], 0),
        ]
        out.labels = {t: float(row[t]) for t in TASKS[domain] if row[t] is not None}
        return out


def encode(encoder: RowEncoder, domain: str, rows, **options):
    schema = SCHEMAS[domain]
    table = pa.Table.from_pylist([{name: row[name] for name in schema.names} for row in rows], schema=schema)
    return encoder.encode(domain, table, "events", **options)


def test_scoring_leaves_features_with_bias_missing(tmp_path):
    events = random_events(3, COUNTS)
    write_world(tmp_path, events, seed=3, group=5)
    encoder = encoder_of(load_experiment(tmp_path, ["context.hour.bias=true"], kinds=KINDS))
    at = encoder.layout.keys.index("feature_hour")
    assert (encode(encoder, "home", events["home"]).singles[:, at] >= 0).any()
    assert (encode(encoder, "home", events["home"], with_labels=False).singles[:, at] == -1).all()
    assert encoder.no_rows().singles.shape[0] == 0


def bags_of(batch) -> dict[str, list[list[int]]]:
    return {key: [bag.tolist() for bag in jagged.to_dense()] for key, jagged in batch.sparse.to_dict().items()}


def assert_equal(batch, layout, expected: list[Expected], padded: int) -> None:
    """Every field of a batch against the reference's rows."""
    rows, bags = len(expected), bags_of(batch)
    assert tuple(batch.sparse.keys()) == layout.keys
    assert batch.sparse.stride() == padded
    assert batch.sparse.values().dtype == torch.int64
    assert set(bags) == set(expected[0].bags)
    for key, of_key in bags.items():
        assert of_key[:rows] == [row.bags[key] for row in expected], key
        assert of_key[rows:] == [[]] * (padded - rows), key
    assert set(layout.dense) == set(expected[0].dense)
    wanted = [[row.dense[name] for name in layout.dense] for row in expected]
    np.testing.assert_allclose(batch.dense.numpy(), np.array(wanted), rtol=1e-5, atol=1e-5)
    assert batch.dense.dtype == torch.float32
    assert set(batch.vectors) == set(batch.vector_present) == set(layout.vectors) == set(expected[0].vectors)
    for name, size in layout.vectors.items():
        given = [row.vectors[name] for row in expected]
        assert batch.vector_present[name].tolist() == [v is not None for v in given], name
        wanted = np.array([np.zeros(size) if v is None else np.asarray(v, np.float64) for v in given])
        np.testing.assert_allclose(batch.vectors[name].float().numpy(), wanted, rtol=2e-3, atol=2e-3)
    assert batch.id_counts.tolist() == [row.counts for row in expected]
    assert batch.label_mask.tolist() == [[task in row.labels for task in layout.tasks] for row in expected]
    assert batch.labels.tolist() == [[row.labels.get(task, 0.0) for task in layout.tasks] for row in expected]
    assert batch.rows == rows


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    events = random_events(11, COUNTS)
    experiment = write_world(tmp_path_factory.mktemp("world"), events, seed=11, group=5)
    return experiment, events, encoder_of(experiment), Reference(events, 11)


@settings(max_examples=40)
@given(data=st.data())
def test_every_field_of_a_batch_equals_the_reference(world, data):
    _, _, encoder, reference = world
    # Fresh events: some of their ids were never counted.
    rows = random_events(data.draw(st.integers(0, 99)), {n: data.draw(st.integers(0, 6)) for n in DOMAINS})
    order = data.draw(st.permutations(DOMAINS))
    parts = [encode(encoder, name, rows[name]) for name in order if rows[name]]
    parts = parts or [encode(encoder, order[0], [])]
    expected = [reference.encode(name, row) for name in DOMAINS for row in rows[name]]
    padded = len(expected) + data.draw(st.integers(0, 4))
    batch = encoder.assemble(parts, padded)
    assert batch.domain_lengths == [len(rows[name]) for name in DOMAINS]
    assert batch.domains.tolist() == [d for d, name in enumerate(DOMAINS) for _ in rows[name]]
    assert batch.domains.dtype == torch.int64
    assert batch.host == {}
    if expected:
        assert_equal(batch, encoder.layout, expected, padded)
    else:
        assert batch.sparse.values().numel() == 0
        assert batch.sparse.lengths().tolist() == [0] * padded * len(encoder.layout.keys)


@settings(max_examples=30)
@given(data=st.data())
def test_rows_taken_apart_and_put_together_are_the_same(world, data):
    _, _, encoder, reference = world
    rows = random_events(data.draw(st.integers(0, 99)), {"find": 7})["find"]
    encoded = encode(encoder, "find", rows, with_host=True)
    places = [data.draw(st.lists(st.integers(0, 6), max_size=4)) for _ in range(3)]
    places[0] = [3, 5, *places[0]]
    taken = concatenate([encoded.take(np.array(at, np.int64)) for at in places])
    chosen = [rows[i] for at in places for i in at]
    batch = encoder.assemble([taken], len(chosen))
    assert_equal(batch, encoder.layout, [reference.encode("find", row) for row in chosen], len(chosen))
    part = encoder.assemble([taken.slice(1, len(chosen))], len(chosen))
    assert_equal(part, encoder.layout, [reference.encode("find", row) for row in chosen[1:]], len(chosen))
    again = encoder.assemble([taken.slice(1, len(chosen)).take(np.array([0]))], 1)
    assert_equal(again, encoder.layout, [reference.encode("find", chosen[1])], 1)
    assert batch.host["list"].tolist() == [row["row"] for row in chosen]
    assert [r.tolist() for r in taken.slice(1, 3).singles] == [r.tolist() for r in taken.singles[1:3]]


def test_missing_is_not_never_seen(world):
    _, events, encoder, _ = world
    row = dict(events["find"][0])
    strange = {"user": "nobody", "item": 999, "intent": "x", "hour": 99, "slot": "x", "history": [999]}
    unseen = {**row, **strange}
    absent = dict.fromkeys(row) | {"row": 0}
    batch = encoder.assemble([encode(encoder, "find", [unseen, absent])], 2)
    bags = bags_of(batch)
    for key in ("id_user", "id_item", "feature_intent", "feature_hour", "feature_slot"):
        assert bags[key] == [[0], []], key
    for key in ("history", "feature_brand", "feature_segment", "feature_tags"):
        assert bags[key] == [[], []], key
    assert bags["feature_matched"][1] == bags["id_query"][1] == []
    assert batch.id_counts[:, [0, 2]].tolist() == [[0, 0], [-1, -1]]
    assert batch.id_counts[1, 1] == -1
    assert batch.label_mask[1].tolist() == [False, False, False]
    assert not any(present[1] for present in batch.vector_present.values())
    assert not batch.dense[1].any()


def test_recommendation_rows_have_no_query(world):
    _, events, encoder, _ = world
    parts = [encode(encoder, name, events[name]) for name in ("home", "new")]
    rows = sum(map(len, parts))
    batch = encoder.assemble(parts, rows)
    bags = bags_of(batch)
    assert bags["id_query"] == bags["feature_intent"] == [[]] * rows
    assert (batch.id_counts[:, encoder.layout.entities.index("query")] == -1).all()
    assert not batch.vector_present["text_query"].any()
    assert not batch.vectors["text_query"].any()


def test_a_label_of_nan_is_no_label(world):
    _, events, encoder, _ = world
    rows = [{**events["new"][0], "click": value, "like": None} for value in (math.nan, None, 1.0, 0.0)]
    encoded = encode(encoder, "new", rows)
    click = encoder.layout.tasks.index("click")
    assert encoded.label_mask[:, click].tolist() == [False, False, True, True]
    assert encoded.labels[:, click].tolist() == [0, 0, 1, 0]
    assert encoded.label_mask.sum() == 2


def test_scoring_has_no_labels(world):
    _, events, encoder, _ = world
    table = pa.Table.from_pylist(events["new"], schema=SCHEMAS["new"]).drop_columns(["click", "like", "row"])
    encoded = encoder.encode("new", table, "events", with_labels=False)
    assert not encoded.label_mask.any()
    assert len(encoded) == len(events["new"])


def test_host_columns_are_the_same_in_every_batch(world):
    _, events, encoder, reference = world
    rows = {name: events[name][:4] for name in DOMAINS}
    parts = {name: encode(encoder, name, rows[name], with_host=True) for name in DOMAINS}
    names = {"user", "user_known", "list", "list_known", "item", "item_key", "bad", "oracle/click"}
    for chosen in (["find"], ["home"], ["new", "home"], ["find", "new"], ["new", "find", "home"]):
        batch = encoder.assemble([parts[name] for name in chosen], 16)
        ordered = [(name, row) for name in DOMAINS if name in chosen for row in rows[name]]
        assert set(batch.host) == names
        truth = [row["truth"] if name == "find" else None for name, row in ordered]
        wanted = [math.nan if p is None else p for p in truth]
        np.testing.assert_array_equal(batch.host["oracle/click"], wanted)
        assert batch.host["list"].tolist() == [row["row"] for _, row in ordered]
        keys = [0 if row["user"] is None else key_of(row["user"]) for _, row in ordered]
        assert batch.host["user"].tolist() == keys
        assert batch.host["user_known"].tolist() == [row["user"] is not None for _, row in ordered]
        assert batch.host["list_known"].all()
        assert not batch.host["bad"].any()
        assert batch.host["item"].tolist() == [reference.rows["item"].get(row["item"], 0) for _, row in ordered]


def test_a_bad_value_is_named_with_its_row(world):
    _, events, encoder, _ = world
    for column, value, words in (
        ("rank", math.nan, "events: column 'rank', row 1: the value is nan"),
        ("clicks", -1, "events: column 'clicks', row 1: the value is -1"),
        ("query_vector", [1.0], "events: column 'query_vector', row 1: the vector has 1 values"),
    ):
        rows = [events["find"][0], {**events["find"][1], column: value}]
        with pytest.raises(UserError) as error:
            encode(encoder, "find", rows)
        assert str(error.value).startswith(words)


def test_only_nulls_may_have_any_type(world):
    _, events, encoder, reference = world
    rows = [dict.fromkeys(events["find"][0])] * 3
    schema = pa.schema({name: pa.null() for name in SCHEMAS["find"].names})
    encoded = encoder.encode("find", pa.Table.from_pylist(rows, schema=schema), "events", with_host=True)
    batch = encoder.assemble([encoded], 3)
    assert_equal(batch, encoder.layout, [reference.encode("find", row) for row in rows], 3)


def test_a_changed_catalog_or_template_is_refused(tmp_path):
    experiment = write_world(tmp_path, random_events(0, COUNTS))
    statistics = count(experiment, train_files(experiment))
    with pytest.raises(UserError, match="template"):
        RowEncoder(load_experiment(tmp_path, ['entities.item.text="{title}!"'], kinds=KINDS), statistics)
    items = pq.read_table(tmp_path / "items.parquet")
    pq.write_table(items.slice(1), tmp_path / "items.parquet")
    with pytest.raises(UserError, match=r"items.parquet has changed"):
        RowEncoder(experiment, statistics)


def test_one_column_may_serve_twice(tmp_path):
    write_world(tmp_path, random_events(0, COUNTS))
    again = ["domains.home.features.who={kind: categorical, column: user}"]
    encoder = encoder_of(load_experiment(tmp_path, again, kinds=KINDS))
    rows = random_events(5, {"home": 6})["home"]
    bags = bags_of(encoder.assemble([encode(encoder, "home", rows)], 6))
    known = {row["user"] for row in random_events(0, COUNTS)["home"]}
    for row, ids, twice in zip(rows, bags["id_user"], bags["feature_who"], strict=True):
        assert len(ids) == len(twice) == (row["user"] is not None)
        assert bool(sum(twice)) == (row["user"] is not None and row["user"] in known)
