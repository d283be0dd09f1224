import datetime
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foundrank.data.batch.assemble import assemble
from foundrank.data.batch.past_items import NONE, ItemCounts, Items, drawn
from foundrank.data.batch.row_encoder import RowEncoder
from foundrank.data.config.kinds import experiment_type
from foundrank.data.config.load import load_experiment
from foundrank.data.errors import UserError
from foundrank.data.schema.column_needs import needed_columns
from foundrank.data.schema.layout import Layout, make_layout
from foundrank.model.kinds import KINDS
from tests.tiny_world import SCHEMAS, encoder_of, experiment_dict, random_events, write_world
from tests.unit.data.batch.test_assemble import COUNTS, TEXTS, random_rows, row_lists

PAST, CANDIDATES, SPARE = 4, 2, 1
CATALOG = 6  # items listed there


def layout_of(model: dict) -> Layout:
    raw = experiment_dict()
    raw["entities"]["user"]["history"]["max_length"] = PAST
    raw["training"] = {"batch_size": 5}
    raw["model"] = model
    names = ["id_user", "id_item", "id_query"]
    names += [f"feature_{n}" for n in ("segment", "brand", "tags", "intent", "hour", "matched", "slot")]
    return make_layout(experiment_type(KINDS).model_validate(raw), dict.fromkeys(names, 50), {"item": 4})


@pytest.fixture(scope="module")
def layout() -> Layout:
    return layout_of({"history": {"encoder": "sasrec"}, "next_item": {"negatives": 9}})  # 9 of 5 + 3 bags: two keys


@pytest.fixture(scope="module")
def sequences(tmp_path_factory: pytest.TempPathFactory) -> RowEncoder:
    """The encoder of the tiny world, for a model that takes past items one by one."""
    folder = tmp_path_factory.mktemp("sequences")
    write_world(folder, random_events(1, {"find": 40, "home": 40, "new": 10}))
    return encoder_of(
        load_experiment(folder, ["model.history.encoder=sasrec", "model.next_item.negatives=5"], kinds=KINDS)
    )


def rows_with_past(layout: Layout, domain: int, lengths: list[int], seed: int):
    """Random rows whose past items have ids (0: never seen) and texts (-1: none)."""
    random = np.random.default_rng((seed, domain))
    offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    rows = random_rows(layout, domain, len(lengths), seed)
    past = random.integers(0, 50, offsets[-1]), offsets
    texts = random.integers(-1, len(TEXTS), offsets[-1]), offsets
    ages = random.integers(0, 10**9, offsets[-1]), offsets
    domains = random.integers(-1, len(layout.domains), offsets[-1]), offsets
    listed = random.integers(-1, CATALOG, offsets[-1]), offsets
    known = {"text_item": texts, "ages": ages, "domains": domains, "catalog": listed}
    return replace(rows, lists=rows.lists | {"history": past}, history=known)


def some_items(count: int, seed: int = 0) -> Items:
    random = np.random.default_rng(seed)
    rows = random.integers(1, 50, count)
    texts = random.integers(-1, len(TEXTS), count)
    listed = random.integers(-1, CATALOG, count)
    return Items(rows.astype(np.uint64), rows, COUNTS.by_row[rows].astype(np.float32), {"text_item": texts}, listed)


def test_past_items_and_candidates_have_keys_of_the_item_table(layout):
    assert layout.past == PAST
    assert layout.candidates == CANDIDATES
    assert layout.keys[-6:] == ("past_0", "past_1", "past_2", "past_3", "candidate_0", "candidate_1")
    assert {layout.table_of[key] for key in layout.keys[-6:]} == {"id_item"}
    assert "history" not in layout.keys
    assert layout.history


@settings(max_examples=40)
@given(
    st.lists(st.lists(st.integers(0, PAST), max_size=4), min_size=2, max_size=2), st.integers(0, 9), st.integers(0, 99)
)
def test_every_past_item_is_where_its_row_and_its_place_say(layout, lengths, candidates, seed):
    parts = [rows_with_past(layout, d, of_domain, seed) for d, of_domain in enumerate(lengths)]
    rows, items = sum(map(len, lengths)), some_items(candidates, seed)
    batch = assemble(parts, layout, {"text_item": TEXTS}, rows + 8, COUNTS, items)
    past = batch.past
    assert past is not None

    wanted = [row for part in parts for row in row_lists(part.lists["history"])]
    texts = [row for part in parts for row in row_lists(part.history["text_item"])]
    bags = {key: [bag.tolist() for bag in jagged.to_dense()] for key, jagged in batch.sparse.to_dict().items()}
    for back in range(PAST):
        expected = [[row[-1 - back]] if back < len(row) else [] for row in wanted]
        assert bags[f"past_{back}"] == expected + [[]] * 8
    assert [bag for k in range(CANDIDATES) for bag in bags[f"candidate_{k}"]][:candidates] == [[r] for r in items.rows]
    assert sum(len(bag) for k in range(CANDIDATES) for bag in bags[f"candidate_{k}"]) == candidates

    assert past.ages.tolist() == [age for part in parts for row in row_lists(part.history["ages"]) for age in row]
    assert past.domains.tolist() == [d for part in parts for row in row_lists(part.history["domains"]) for d in row]
    assert past.lengths.tolist() == [len(row) for row in wanted]
    assert past.longest == max([1, *map(len, wanted)])
    assert past.rows.tolist() == [item for row in wanted for item in row]
    assert past.at.tolist() == [b * PAST + PAST - len(row) + j for b, row in enumerate(wanted) for j in range(len(row))]
    assert past.counts.tolist() == COUNTS.by_row[past.rows.numpy()].tolist()
    wanted_texts = [*(t for of_row in texts for t in of_row), *items.content_rows["text_item"]]
    assert [None if a < 0 else past.vectors["text_item"][a].tolist() for a in past.vector_at["text_item"]] == [
        None if t < 0 else TEXTS[t].tolist() for t in wanted_texts
    ]
    own = np.concatenate([part.singles[:, layout.keys.index("id_item")] for part in parts])
    assert past.item_rows.tolist() == np.maximum(own, 0).tolist()


def test_a_table_for_attention_is_asked_for_the_same_items():
    layout = layout_of({"history": {"encoder": "din", "decoupled": True}})
    assert layout.tables["attention_item"] == layout.tables["id_item"]
    keys = [*(f"attention_{back}" for back in range(PAST)), "attention_own"]
    assert list(layout.keys[-5:]) == keys
    assert {layout.table_of[key] for key in keys} == {"attention_item"}
    parts = [rows_with_past(layout, 0, [3, 0, 4], 1), rows_with_past(layout, 1, [1], 2)]
    batch = assemble(parts, layout, {"text_item": TEXTS}, 4 + 8, COUNTS)
    bags = {key: [bag.tolist() for bag in jagged.to_dense()] for key, jagged in batch.sparse.to_dict().items()}
    for mine, theirs in zip(keys, [*(f"past_{back}" for back in range(PAST)), "id_item"], strict=True):
        assert bags[mine] == bags[theirs]
    assert any(bags["attention_own"])


def test_draws_depend_on_key_and_step_alone_and_are_even(layout):
    items = some_items(30)
    items = items.take(np.unique(items.rows, return_index=True)[1])
    first, again, other = (drawn(items, layout, 500, False, key) for key in ((1, 2), (1, 2), (1, 3)))
    assert len(first(0)) == layout.candidates * 500
    np.testing.assert_array_equal(first(4).rows, again(4).rows)
    assert (first(4).rows != first(5).rows).any()
    assert (first(4).rows != other(4).rows).any()
    shares = np.bincount(first(0).rows, minlength=50)[items.rows] / 1000
    assert abs(shares * len(items) - 1).max() < 0.6
    every = drawn(items, layout, 500, True, (1, 2))
    np.testing.assert_array_equal(every(7).rows, items.rows)
    assert len(drawn(NONE, layout, 500, False, (1,))(0)) == 0


def test_counts_are_of_the_items_seen():
    counts = ItemCounts.of(np.array([0, 3, 0, 2]))
    assert (counts.items, counts.events) == (2, 5)


def test_items_are_those_of_the_vocabulary_and_then_new_ones_of_the_catalog(sequences: RowEncoder):
    every, trained = sequences.items(trained=False), sequences.items(trained=True)
    table = sequences.statistics.tables["id_item"]
    assert len(np.unique(every.keys)) == len(every)
    assert every.rows[: table.rows - 1].tolist() == list(range(1, table.rows))
    assert (every.rows[table.rows - 1 :] == 0).all()
    assert trained.rows.tolist() == list(range(1, table.rows))
    assert (trained.counts > 0).all()
    text = sequences.contents["text_item"]
    np.testing.assert_array_equal(every.content_rows["text_item"], text.rows(every.keys))


def test_a_past_item_never_seen_keeps_its_place_and_its_text(sequences: RowEncoder):
    row = dict.fromkeys(SCHEMAS["home"].names) | {"history": [1, 999, 2]}
    rows = sequences.encode("home", pa.Table.from_pylist([row], schema=SCHEMAS["home"]), "here")
    found = sequences.statistics.tables["id_item"].lookup(np.array([1, 999, 2], np.uint64)).tolist()
    assert found[1] == 0
    assert found[0] > 0
    assert rows.lists["history"][0].tolist() == found
    assert len(rows.history["text_item"][0]) == 3
    assert "keys" not in rows.history
    rows = sequences.encode("home", pa.Table.from_pylist([row], schema=SCHEMAS["home"]), "here", with_host=True)
    batch = sequences.assemble([rows], 8)
    assert batch.past is not None
    assert batch.past.keys.tolist() == [1, 999, 2]


def test_times_are_read_only_where_the_model_looks_at_them(tmp_path):
    write_world(tmp_path, random_events(1, {"find": 20, "home": 20, "new": 5}))
    changes = ["entities.user.history.times=when", "model.history.encoder=din", "entities.user.history.time=now"]
    experiment = load_experiment(tmp_path, changes, kinds=KINDS)
    assert {"when", "now"}.isdisjoint(need.name for need in needed_columns(experiment, "home"))
    experiment = load_experiment(tmp_path, [*changes, "model.history.time_bias=true"], kinds=KINDS)
    needs = {need.name: need.holds for need in needed_columns(experiment, "home", with_labels=False)}
    assert (needs["when"], needs["now"]) == ("list of times", "time")
    encoder = RowEncoder(experiment, encoder_of(load_experiment(tmp_path, changes, kinds=KINDS)).statistics)
    home = SCHEMAS["home"].append(pa.field("when", pa.list_(pa.timestamp("ms")))).append(pa.field("now", pa.date32()))
    day = datetime.date(2026, 1, 2)
    row = dict.fromkeys(home.names) | {"history": [1, None, 2, 3, 4], "now": day}
    row["when"] = [datetime.datetime(2026, 1, 1, hour) for hour in (1, 2, 3, 4, 5)]
    rows = encoder.encode("home", pa.Table.from_pylist([row, row | {"history": None, "when": []}], schema=home), "here")
    assert row_lists(rows.history["ages"]) == [[21 * 3600, 20 * 3600, 19 * 3600], []]  # the last three that have an id
    assert row_lists(rows.take(np.array([1, 0])).history["ages"]) == [[], [21 * 3600, 20 * 3600, 19 * 3600]]
    with pytest.raises(UserError, match="here: column 'when', row 0: has not as many times"):
        encoder.encode("home", pa.Table.from_pylist([row | {"when": row["when"][1:]}], schema=home), "here")
    assert len(encoder.no_rows()) == 0


def test_domains_are_read_only_where_past_items_are_taken_one_by_one(tmp_path):
    write_world(tmp_path, random_events(1, {"find": 20, "home": 20, "new": 5}))
    told = "entities.user.history.domains=where"
    assert "where" not in {need.name for need in needed_columns(load_experiment(tmp_path, [told], kinds=KINDS), "home")}
    experiment = load_experiment(tmp_path, [told, "model.history.encoder=sasrec"], kinds=KINDS)
    needs = {need.name: need.holds for need in needed_columns(experiment, "home", with_labels=False)}
    assert needs["where"] == "list of names"
    untold = encoder_of(load_experiment(tmp_path, ["model.history.encoder=sasrec"], kinds=KINDS))
    assert not untold.layout.past_domains
    encoder = RowEncoder(experiment, untold.statistics)
    assert encoder.layout.past_domains
    home = SCHEMAS["home"].append(pa.field("where", pa.list_(pa.string())))
    row = dict.fromkeys(home.names) | {"history": [1, None, 2, 3, 4], "where": ["new", "home", "find", "gone", None]}
    rows = encoder.encode("home", pa.Table.from_pylist([row], schema=home), "here")
    assert row_lists(rows.history["domains"]) == [[0, -1, -1]]  # the last three that have an id
    batch = encoder.assemble([rows], 8)
    assert batch.past is not None
    assert batch.past.domains.tolist() == [0, -1, -1]
    assert len(encoder.no_rows()) == 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("model.history.time_bias=true", "needs to know when past items were"),
        ("model.history.features=[brnd]", "Did you mean 'brand'"),
        ("model.history.features=[shelf]", "'shelf' is not a feature from the item catalog"),
        ("model.history.features=[rank]", "'rank' is not a feature from the item catalog"),
        (
            "model={aspects: [id, text], history: {encoder: din, features: [brand]}}",
            "no part without the sparse aspect",
        ),
        ("model.history={encoder: mean, features: [brand]}", "encoder: mean has no such"),
        ("model.history={encoder: mean, time_bias: true}", "encoder: mean has no such"),
    ],
)
def test_options_that_the_data_cannot_serve_are_refused(change, words, tmp_path):
    write_world(tmp_path, random_events(1, {"find": 5, "home": 5, "new": 5}))
    with pytest.raises(UserError, match=words):
        load_experiment(tmp_path, ["model.history.encoder=din", change], kinds=KINDS)


def test_each_domain_draws_as_many_of_its_own_items_and_for_itself(layout):
    items, of_domain = some_items(30), np.zeros((30, 3), bool)
    of_domain[:20, 0], of_domain[15:, 2] = True, True  # the domain in the middle has none
    draw = drawn(replace(items, of_domain=of_domain), layout, 8, False, (1,))
    found = draw(3)
    assert found.of_domain is not None
    assert len(found) == 16
    assert found.of_domain.sum(0).tolist() == [8, 0, 8]
    assert found.of_domain.sum(1).tolist() == [1] * 16
    keys = [set(items.keys[of_domain[:, d]].tolist()) for d in range(3)]
    assert all(int(key) in keys[int(of.argmax())] for key, of in zip(found.keys, found.of_domain, strict=True))
    again, other = draw(3), draw(4)
    assert found.keys.tolist() == again.keys.tolist() != other.keys.tolist()
    whole = drawn(replace(items, of_domain=of_domain), layout, 99, True, (1,))(0)
    assert whole.of_domain is not None
    assert whole.of_domain.tolist() == of_domain.tolist()


def test_items_are_of_the_domains_that_are_known_and_those_without_a_row_of_their_row_s(layout):
    parts, items = [rows_with_past(layout, d, [2, 0, 3], 5) for d in (0, 1)], some_items(4)
    of_domain = np.random.default_rng(0).random((50, len(layout.domains))) < 0.5
    counts = COUNTS.in_domains(of_domain)
    assert counts.by_domain[0][0] == (of_domain[:, 0] & (COUNTS.by_row > 0)).sum()
    parts[0].lists["history"][0][0] = 0
    for_domains = of_domain[items.rows]
    batch = assemble(parts, layout, {"text_item": TEXTS}, 20, counts, replace(items, of_domain=for_domains))
    past = batch.past
    assert past is not None
    assert past.of_domain is not None
    rows = [*past.rows.tolist(), *past.item_rows.tolist()]
    of_rows = [*[0] * 5, *[1] * 5, *[0] * 3, *[1] * 3]
    for at, (row, domain) in enumerate(zip(rows, of_rows, strict=True)):
        wanted = of_domain[row].tolist() if row else [d == domain for d in range(len(layout.domains))]
        assert past.of_domain[at].tolist() == wanted
    assert rows[0] == 0
    assert past.of_domain[len(rows) :].tolist() == for_domains.tolist()
