"""How alike items and past ones are, against one cosine at a time; and where there is nothing to compare."""

import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from foundrank.data.batch import similarity
from foundrank.data.batch.row_encoder import RowEncoder
from foundrank.data.batch.similarity import SimilarItems, sampled_products
from foundrank.data.config.experiment import Experiment
from foundrank.data.config.load import load_experiment
from foundrank.data.config.sections.similarity import SimilarityConfig
from foundrank.data.contents.content_table import ContentTable
from foundrank.data.contents.leading_directions import leading_directions
from foundrank.data.counting.counting_pass import count
from foundrank.data.counting.statistics import Statistics
from foundrank.data.errors import UserError
from foundrank.data.schema.layout import SIMILARITY, content_key
from foundrank.data.vocabulary.vocabulary import KeyIndex
from foundrank.model.kinds import KINDS
from tests.named_contents import write_contents
from tests.tiny_world import SCHEMAS, random_events, train_files, write_world

SIZE, ITEMS, BINS, TOP = 6, 40, 5, (2, 1, 4)
EVENTS = {"find": 60, "home": 30, "new": 10}


@pytest.fixture
def content() -> ContentTable:
    g = np.random.default_rng(1)
    vectors = 3 + g.normal(size=(ITEMS, SIZE)) * np.arange(1, SIZE + 1)  # in a cone
    keys = np.arange(ITEMS, dtype=np.uint64)
    return ContentTable(torch.from_numpy(vectors.astype(np.float16)), KeyIndex(keys), np.arange(ITEMS))


def compared(content: ContentTable) -> SimilarItems:
    config = SimilarityConfig(bins=BINS, top=TOP)
    return SimilarItems(config, content, leading_directions(content.vectors, np.arange(ITEMS)))


def wanted(content: ContentTable, own: int, past: list[int]) -> list[float]:
    """One row, cosine by cosine."""
    vectors = content.vectors.double().numpy()
    centred = vectors - vectors.mean(0)
    variances, axes = np.linalg.eigh(centred.T @ centred / ITEMS)
    white = centred @ axes / np.sqrt(0.9 * variances + 0.1 * variances.mean())
    cosines = []
    for item in past if own >= 0 else []:
        if item >= 0:
            cosines.append(white[own] @ white[item] / np.linalg.norm(white[own]) / np.linalg.norm(white[item]))
    cosines.sort(reverse=True)
    means = [np.mean(cosines[:many]) * math.sqrt(SIZE) / 2 if cosines else 0 for many in TOP]
    edges = [-1 + 2 * at / BINS for at in range(BINS)]
    held = [max(at for at, edge in enumerate(edges) if cosine >= edge) for cosine in cosines]
    return [*means, *(math.log(1 + held.count(at)) for at in range(BINS))]


@pytest.mark.parametrize("at_a_time", [1, 7, 1 << 16])
def test_each_row_is_what_its_cosines_say(content, monkeypatch, at_a_time):
    monkeypatch.setattr(similarity, "_AT_A_TIME", at_a_time)
    g = np.random.default_rng(2)
    pasts = [g.integers(-1, ITEMS, length).tolist() for length in g.integers(0, 9, 50)]
    own = g.integers(-1, ITEMS, 50)
    pasts[3], pasts[4], own[5] = [], [-1, -1], -1
    pasts[6] = [int(own[6]), *pasts[6]]  # the item itself
    values = np.array([9, 9, *(item for past in pasts for item in past), 9])  # part of a longer array
    offsets = 2 + np.cumsum([0, *map(len, pasts)])
    found = compared(content).of_rows(own, (values, offsets))
    expected = [wanted(content, item, past) for item, past in zip(own, pasts, strict=True)]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    assert not found[3:6].any()
    assert found[6, 1] == pytest.approx(math.sqrt(SIZE) / 2, rel=1e-4)
    # A row says the same whatever stands beside it, and nothing of no rows.
    alone = compared(content).of_rows(own[7:8], (values, offsets[7:9]))
    assert np.array_equal(alone[0], found[7])
    assert compared(content).of_rows(own[:0], (values[:0], offsets[:1])).shape == (0, len(TOP) + BINS)


def test_products_without_a_gathering_are_those_with_one(content, monkeypatch):
    vectors = content.vectors.float()
    at, offsets = np.array([3, 3, 1, 7, 0]), np.array([0, 2, 2, 5])
    found = sampled_products(vectors[:3], vectors, at, offsets)
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: False)
    torch.testing.assert_close(found, sampled_products(vectors[:3], vectors, at, offsets))
    rows = [0, 0, 2, 2, 2]
    torch.testing.assert_close(found, (vectors[rows] * vectors[at]).sum(1))


def test_directions_are_those_that_vary_and_none_where_nothing_does():
    g = torch.Generator().manual_seed(3)
    flat = torch.randn(500, 3, generator=g) @ torch.randn(3, 80, generator=g) + 1
    mean, found = (part[:, 0] if at == 0 else part[:, 1:] for at, part in enumerate([leading_directions(flat, np.arange(500))] * 2))  # fmt: skip
    assert found.shape == (80, 3)
    np.testing.assert_allclose(mean, flat.mean(0), rtol=1e-3, atol=1e-3)
    assert leading_directions(torch.randn(500, 80, generator=g), np.arange(500)).shape == (80, 65)
    for rows in (np.arange(500), np.arange(0)):
        assert leading_directions(torch.ones(500, 80), rows).shape == (80, 1)


def loaded(folder: Path, *changes: str) -> Experiment:
    return load_experiment(folder, changes, kinds=KINDS)


def table_of(rows: list[dict]) -> pa.Table:
    return pa.Table.from_pylist([{k: row[k] for k in SCHEMAS["find"].names} for row in rows], SCHEMAS["find"])


@pytest.mark.parametrize("more", [(), ("model.history.encoder=din",), ("model.gate=none",)], ids=str)
def test_rows_of_an_experiment_say_it_of_every_content(tmp_path: Path, more):
    events = random_events(3, EVENTS)
    write_contents(tmp_path, events)
    experiment = loaded(tmp_path, "model.similarity={bins: 3, top: [1]}", *more)
    statistics = count(experiment, train_files(experiment))
    statistics.save(tmp_path / "kept")
    encoder = RowEncoder(experiment, Statistics.load(tmp_path / "kept"))
    layout = encoder.layout
    columns = [f"similarity of {c}, {what}" for c in ("text", "blurb", "clip") for what in ("top 1", *(f"bin {n}" for n in range(3)))]  # fmt: skip
    assert list(layout.dense[: len(columns)]) == columns
    assert layout.dense_of[SIMILARITY] == tuple(range(len(columns)))
    rows = encoder.encode("find", table_of(events["find"]), "here")
    told = 0
    for number, name in enumerate(("text", "blurb", "clip")):
        at = encoder.contents[content_key("item", name)]
        similar = SimilarItems(SimilarityConfig(bins=3, top=(1,)), at, statistics.directions[name])
        for row, event in enumerate(events["find"]):
            past = [item for item in event["history"] or [] if item is not None][-3:]
            keys = [np.array([-1 if item is None else item]).astype(np.uint64) for item in (event["item"], *past)]
            own, *others = (int(at.rows(np.array(key))[0]) for key in keys)
            own = own if event["item"] is not None else -1
            found = similar.of_rows(np.array([own]), (np.array(others, np.int64), np.array([0, len(others)])))
            np.testing.assert_allclose(rows.dense[row, 4 * number : 4 * number + 4], found[0], rtol=1e-5, atol=1e-5)
            told += bool(found.any())
    assert told > 20
    batch = encoder.assemble([rows], 64)
    np.testing.assert_array_equal(batch.dense[:, : len(columns)].numpy(), rows.dense[:, : len(columns)])


def test_a_model_goes_on_with_the_directions_it_has_learned_with(tmp_path: Path):
    write_world(tmp_path, random_events(3, EVENTS))
    experiment = loaded(tmp_path, "model.similarity.bins=4")
    before = count(experiment, train_files(experiment))
    after = count(experiment, train_files(experiment))
    after.directions = {name: of + 1 for name, of in after.directions.items()}
    assert np.array_equal(before.extended(after).directions["text"], before.directions["text"])
    before.directions = {}
    with pytest.raises(UserError, match="says nothing of 'text' in directions"):
        before.check_fits(experiment, tmp_path)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("{bins: 0, top: []}", "bins is 0 and top is empty"),
        ("{top: [3, 3]}", "names a number twice"),
        ("{top: [0]}", "greater than or equal to 1"),
    ],
)
def test_settings_that_cannot_be_are_refused(tmp_path: Path, setting, words):
    write_world(tmp_path, random_events(3, {"find": 5, "home": 5, "new": 5}))
    with pytest.raises(UserError, match=words):
        loaded(tmp_path, f"model.similarity={setting}")
