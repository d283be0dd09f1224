import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from foundrank.data.batch.assemble import assemble
from foundrank.data.batch.past_items import ItemCounts
from foundrank.data.batch.rows import Rows, concatenate
from foundrank.data.config.kinds import experiment_type
from foundrank.data.schema.layout import Layout, make_layout
from foundrank.model.kinds import KINDS
from tests.tiny_world import experiment_dict


@pytest.fixture(scope="module")
def layout() -> Layout:
    experiment = experiment_type(KINDS).model_validate(experiment_dict())
    names = ["id_user", "id_item", "id_query"]
    names += [f"feature_{n}" for n in ("segment", "brand", "tags", "intent", "hour", "matched", "slot")]
    return make_layout(experiment, dict.fromkeys(names, 50), {"item": 4})


def ragged(random: np.random.Generator, rows: int, upto: int):
    lengths = random.integers(0, 4, rows)
    return random.integers(0, upto, lengths.sum()), np.concatenate([[0], np.cumsum(lengths)])


def random_rows(layout: Layout, domain: int, rows: int, seed: int, texts: int = 6) -> Rows:
    """Encoded rows of no meaning, for a content store of ``texts`` vectors."""
    random = np.random.default_rng((seed, domain))
    events = [name for name in layout.vectors if name not in ("text_item", "text_history")]
    tasks = (rows, len(layout.tasks))
    return Rows(
        domain=domain,
        singles=random.integers(-1, 50, (rows, layout.singles)),
        lists={key: ragged(random, rows, 50) for key in layout.lists},
        dense=random.normal(size=(rows, len(layout.dense))).astype(np.float32),
        vectors={name: random.normal(size=(rows, layout.vectors[name])).astype(np.float32) for name in events},
        vector_present={name: random.random(rows) < 0.5 for name in events},
        content_rows={"text_item": random.integers(-1, texts, rows)},
        history={"text_item": ragged(random, rows, texts)},
        id_counts=random.integers(-1, 9, (rows, len(layout.entities))).astype(np.float32),
        labels=random.integers(0, 2, tasks).astype(np.float32),
        label_mask=random.random(tasks) < 0.5,
        chosen=random.random(rows) < 0.5,
        host={"row": random.integers(0, 10**6, rows)},
    )


COUNTS = ItemCounts.of(np.arange(50))
TEXTS = torch.arange(24).reshape(6, 4).to(torch.float16) - 11


def row_lists(ragged) -> list[list[int]]:
    values, offsets = ragged
    return [values[offsets[i] : offsets[i + 1]].tolist() for i in range(len(offsets) - 1)]


@settings(max_examples=40)
@given(st.lists(st.integers(0, 6), min_size=3, max_size=3), st.permutations([0, 1, 2]), st.integers(1, 5), st.data())
def test_rows_come_grouped_by_domain_and_whole(layout, lengths, order, spare, data):
    chosen = data.draw(st.lists(st.sampled_from(order), min_size=1, unique=True))
    pieces = {d: random_rows(layout, d, lengths[d], sum(lengths)) for d in chosen}
    rows = sum(lengths[d] for d in chosen)
    batch = assemble([pieces[d] for d in chosen], layout, {"text_item": TEXTS}, rows + spare, COUNTS)
    parts = [pieces[d] for d in sorted(chosen)]
    assert batch.domain_lengths == [lengths[d] if d in chosen else 0 for d in range(3)]
    assert batch.domains.tolist() == [d for d in sorted(chosen) for _ in range(lengths[d])]
    assert batch.rows == rows

    bags = {key: [bag.tolist() for bag in jagged.to_dense()] for key, jagged in batch.sparse.to_dict().items()}
    assert list(bags) == list(layout.keys)
    for at, key in enumerate(layout.keys):
        if at < layout.singles:
            expected = [[value] if value >= 0 else [] for p in parts for value in p.singles[:, at].tolist()]
        else:
            expected = [row for p in parts for row in row_lists(p.lists[key])]
        assert bags[key] == expected + [[]] * spare, key

    for name in ("dense", "id_counts", "labels", "label_mask"):
        np.testing.assert_array_equal(getattr(batch, name), np.concatenate([getattr(p, name) for p in parts]))
    for name in parts[0].vectors:
        np.testing.assert_array_equal(batch.vectors[name], np.concatenate([p.vectors[name] for p in parts]))
        present = np.concatenate([p.vector_present[name] for p in parts])
        np.testing.assert_array_equal(batch.vector_present[name], present)
    np.testing.assert_array_equal(batch.host["row"], np.concatenate([p.host["row"] for p in parts]))


@settings(max_examples=30)
@given(st.integers(0, 9), st.integers(0, 99))
def test_text_vectors_and_the_mean_of_the_history(layout, rows, seed):
    part = random_rows(layout, 1, rows, seed)
    batch = assemble([part], layout, {"text_item": TEXTS}, rows, COUNTS)
    assert batch.vectors["text_item"].dtype == torch.float16
    for row, at in enumerate(part.content_rows["text_item"].tolist()):
        assert bool(batch.vector_present["text_item"][row]) == (at >= 0)
        assert batch.vectors["text_item"][row].tolist() == (TEXTS[at].tolist() if at >= 0 else [0.0] * 4)
    for row, past in enumerate(row_lists(part.history["text_item"])):
        assert bool(batch.vector_present["text_history"][row]) == bool(past)
        mean = TEXTS[past].double().mean(0) if past else torch.zeros(4, dtype=torch.float64)
        torch.testing.assert_close(batch.vectors["text_history"][row].double(), mean, rtol=1e-3, atol=1e-3)


def test_types(layout):
    batch = assemble([random_rows(layout, 0, 3, 0)], layout, {"text_item": TEXTS}, 5, COUNTS)
    assert batch.sparse.values().dtype == batch.domains.dtype == torch.int64
    assert batch.dense.dtype == batch.id_counts.dtype == batch.labels.dtype == torch.float32
    assert batch.label_mask.dtype == batch.vector_present["text_query"].dtype == torch.bool
    assert batch.sparse.stride() == 5
    assert batch.sparse.lengths().shape == (5 * len(layout.keys),)


def test_an_empty_batch_has_every_field(layout):
    batch = assemble([random_rows(layout, 2, 0, 0)], layout, {"text_item": TEXTS}, 4, COUNTS)
    assert batch.domain_lengths == [0, 0, 0]
    assert batch.sparse.values().shape == (0,)
    assert batch.sparse.stride() == 4
    assert set(batch.vectors) == set(layout.vectors)
    assert {name: tuple(v.shape) for name, v in batch.vectors.items()} == {n: (0, s) for n, s in layout.vectors.items()}
    assert batch.label_mask.shape == (0, len(layout.tasks))


@settings(max_examples=30)
@given(st.lists(st.lists(st.integers(0, 4), max_size=5), min_size=1, max_size=4), st.integers(0, 9))
def test_taking_and_concatenating_move_whole_rows(layout, places, seed):
    rows = random_rows(layout, 0, 5, seed)
    chosen = [at for part in places for at in part]
    direct = rows.take(np.array(chosen, np.int64))
    joined = concatenate([rows.take(np.array(part, np.int64)) for part in places])
    for taken in (direct, joined):
        assert len(taken) == len(chosen)
        np.testing.assert_array_equal(taken.singles, rows.singles[chosen])
        np.testing.assert_array_equal(taken.dense, rows.dense[chosen])
        np.testing.assert_array_equal(taken.host["row"], rows.host["row"][chosen])
        np.testing.assert_array_equal(taken.content_rows["text_item"], rows.content_rows["text_item"][chosen])
        for name in rows.vectors:
            np.testing.assert_array_equal(taken.vectors[name], rows.vectors[name][chosen])
            np.testing.assert_array_equal(taken.vector_present[name], rows.vector_present[name][chosen])
        for key, values in rows.lists.items():
            whole = row_lists(values)
            assert row_lists(taken.lists[key]) == [whole[at] for at in chosen]
        past = row_lists(rows.history["text_item"])
        assert row_lists(taken.history["text_item"]) == [past[at] for at in chosen]


def test_memory_of_rows_is_counted(layout):
    few, many = (random_rows(layout, 0, rows, 0).nbytes for rows in (10, 1000))
    assert 50 * few < many < 200 * few
