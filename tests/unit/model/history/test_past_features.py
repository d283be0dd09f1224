"""A past item has the features that the same item has where it is shown."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
import yaml

from foundrank.data.batch.row_encoder import RowEncoder
from foundrank.data.config.load import load_experiment
from foundrank.model.foundation.foundation import Foundation
from foundrank.model.history.past_items import PastItems
from foundrank.model.kinds import KINDS
from foundrank.model.representation.embedding_tables import materialise
from tests.tiny_world import SCHEMAS, encoder_of, random_events, write_world

SETTINGS = (
    "model={embedding_dim: 8, width: 8, id_dropout: 0, hide_rare_items: 0, aspects: [id, text, sparse], "
    "history: {encoder: sasrec, dropout: 0, features: [brand, tags, price, image]}, next_item: {negatives: 5}}"
)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> RowEncoder:
    folder = tmp_path_factory.mktemp("features")
    write_world(folder, random_events(1, {"find": 40, "home": 60, "new": 10}))
    return encoder_of(load_experiment(folder, [SETTINGS], kinds=KINDS))


def model_of(encoder: RowEncoder) -> Foundation:
    torch.manual_seed(1)
    model = Foundation(encoder.layout, encoder.experiment.model, 8)
    materialise(model, 1)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return model.eval()


def vectors(encoder: RowEncoder, model: Foundation, items: list[int]) -> tuple[torch.Tensor, ...]:
    """Of the same items: as past ones, as candidates, and as the rows' own. Rows have one past item each."""
    rows = [dict.fromkeys(SCHEMAS["home"].names) | {"history": [item], "item": item} for item in items]
    encoded = encoder.encode("home", pa.Table.from_pylist(rows, schema=SCHEMAS["home"]), "here")
    listed = encoder.items(trained=False)
    at = np.array([int(np.flatnonzero(listed.keys == item)[0]) for item in items], np.int64)
    batch = encoder.assemble([encoded], 16, listed.take(at))
    batch = replace(batch, vectors={name: of.float() for name, of in batch.vectors.items()})
    pooled, dense = model.embeddings(batch.sparse), model.dense
    assert dense.history is not None
    anywhere = dense.domain_embedding.mean(0)
    sequence, candidates = dense.history.items(pooled, batch, dense.represent.encoder, anywhere)
    own = dense.history.items.own(pooled, batch, dense.represent.encoder, anywhere)
    return sequence.items, candidates, own


def test_an_item_is_the_same_in_the_past_among_candidates_and_at_hand(encoder: RowEncoder):
    model = model_of(encoder)
    items = [3, 2, 0, 5, 1]
    past, candidates, own = vectors(encoder, model, items)
    torch.testing.assert_close(past, candidates)
    torch.testing.assert_close(past, own)
    assert len(torch.unique(past.detach().round(decimals=4), dim=0)) == len(items)


@pytest.mark.parametrize("table", ["feature_brand", "feature_tags"])
def test_features_are_looked_up_in_the_tables_of_the_item(encoder: RowEncoder, table: str):
    model = model_of(encoder)
    before = vectors(encoder, model, list(range(6)))
    with torch.no_grad():
        model.embeddings.embedding_bags[table].weight += torch.randn(8)
    after = vectors(encoder, model, list(range(6)))
    moved = [((one - other).abs().amax(1) > 1e-4).tolist() for one, other in zip(before, after, strict=True)]
    assert any(moved[0])
    assert not all(moved[0])  # some have no brand, some no tags
    assert moved[0] == moved[1] == moved[2]


def test_no_rows_and_no_candidates_are_nothing(encoder: RowEncoder):
    for of_each in vectors(encoder, model_of(encoder), []):
        assert of_each.shape == (0, 8)


def test_a_new_item_is_known_by_its_features_alone(tmp_path: Path):
    write_world(tmp_path, random_events(1, {"find": 40, "home": 60, "new": 10}))
    alone = SETTINGS.replace("[id, text, sparse]", "[sparse]").replace("tags, price, image", "tags, image")
    encoder = encoder_of(load_experiment(tmp_path, [alone], kinds=KINDS))
    model = model_of(encoder)
    listed = encoder.items(trained=False)
    described = [int(key) for key, at in zip(listed.keys, listed.catalog_rows, strict=True) if at >= 0]
    past, candidates, _ = vectors(encoder, model, described)
    assert (past != 0).any(1).sum() > 1
    torch.testing.assert_close(past, candidates)


def test_without_features_named_there_are_no_lookups_for_them(encoder: RowEncoder):
    layout = replace(encoder.layout, past_features=(), past_dense=(), past_vectors=())
    assert len(PastItems(layout)._keys) == layout.past + layout.candidates
    assert len(PastItems(encoder.layout)._keys) == 3 * (layout.past + layout.candidates)


def test_all_that_a_model_without_tasks_has_of_features_learns(tmp_path: Path):
    write_world(tmp_path, random_events(1, {"home": 60, "find": 10, "new": 10}))
    path = tmp_path / "experiment.yaml"
    raw = yaml.safe_load(path.read_text())
    raw["domains"] = {"home": raw["domains"]["home"] | {"tasks": {}}}
    path.write_text(yaml.safe_dump(raw))
    encoder = encoder_of(load_experiment(tmp_path, [SETTINGS], kinds=KINDS))
    model = model_of(encoder).train()
    rows = [dict.fromkeys(SCHEMAS["home"].names) | {"history": [i, 3 - i], "item": i + 1} for i in range(4)]
    encoded = encoder.encode("home", pa.Table.from_pylist(rows, schema=SCHEMAS["home"]), "here")
    loss, _ = model(encoder.assemble([encoded], 8, encoder.items(trained=True).take(np.arange(4))))
    loss.backward()
    aspect = model.dense.represent.encoder.sparse_aspects["item"]
    assert aspect.inputs == [
        ("feature_brand", 8),
        ("feature_tags", 8),
        ("feature_image", 8),
        ("price", 1),
    ]  # not slot, ...
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
    assert (aspect.projection[0].weight.grad != 0).any(0).all()


def test_what_is_found_is_the_same_wherever_the_past_was(encoder: RowEncoder):
    layout = replace(encoder.layout, past_domains=True)
    torch.manual_seed(1)
    model = Foundation(layout, encoder.experiment.model, 8)
    materialise(model, 1)
    rows = [dict.fromkeys(SCHEMAS["home"].names) | {"history": [1, 2, 3], "item": item} for item in (3, 4)]
    encoded = encoder.encode("home", pa.Table.from_pylist(rows, schema=SCHEMAS["home"]), "here")
    seen: list[tuple] = []
    assert model.dense.history is not None

    def objective(history, sequence, found_among, candidates, batch, embeddings):
        items = found_among()
        seen.append((sequence.items, items, candidates))
        return items.sum() * 0, torch.zeros(2)

    model.dense.history.objective.forward = objective
    for domain in (0, 1):
        batch = encoder.assemble([encoded], 8, encoder.items(trained=False).take(np.arange(3)))
        past = replace(batch.past, domains=torch.full_like(batch.past.domains, domain))
        model.train()(replace(batch, past=past))
    assert (seen[0][0] - seen[1][0]).abs().amax(1).min() > 1e-3
    assert torch.equal(seen[0][1], seen[1][1])
    assert torch.equal(seen[0][2], seen[1][2])
