"""A past item has every content that the same item has where it is shown, and each has a part in its vector."""

from pathlib import Path

import numpy as np
import pytest
import torch

from foundrank.data.batch.row_encoder import RowEncoder
from tests.named_contents import write_contents
from tests.tiny_world import encoder_of, random_events
from tests.unit.model.history.test_past_features import model_of, vectors

SETTINGS = (
    "model={embedding_dim: 8, width: 8, id_dropout: 0, hide_rare_items: 0, "
    "history: {encoder: sasrec, dropout: 0, features: [brand, image]}, next_item: {negatives: 5}}"
)
ITEMS = list(range(6))


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> RowEncoder:
    folder = tmp_path_factory.mktemp("contents")
    return encoder_of(write_contents(folder, random_events(1, {"find": 40, "home": 60, "new": 10}), SETTINGS))


def test_an_item_is_the_same_in_the_past_among_candidates_and_at_hand(encoder: RowEncoder):
    past, candidates, own = vectors(encoder, model_of(encoder), ITEMS)
    torch.testing.assert_close(past, candidates)
    torch.testing.assert_close(past, own)
    assert len(torch.unique(past.detach().round(decimals=4), dim=0)) == len(ITEMS)


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("text_projections.item", "text_item"),
        ("text_projections.item_blurb", "content_blurb_item"),
        ("text_projections.item_clip", "content_clip_item"),
        ("sparse_aspects.item.vector_projections.feature_image", "feature_image"),
    ],
)
def test_each_vector_has_a_part_in_the_items_that_have_it(encoder: RowEncoder, module: str, name: str):
    model = model_of(encoder)
    before = vectors(encoder, model, ITEMS)
    with torch.no_grad():
        for parameter in model.dense.represent.encoder.get_submodule(module).parameters():
            parameter += torch.randn(parameter.shape)
    after = vectors(encoder, model, ITEMS)
    if name in encoder.contents:
        keys = encoder.items(trained=False).keys
        has = {int(key) for key, at in zip(keys, encoder.contents[name].rows(keys), strict=True) if at >= 0}
    else:
        values, there = encoder._catalogs["item"].columns.vectors[name]
        has = {int(key) for key in encoder._catalogs["item"].keys[there & (values != 0).any(1)]}
    assert 0 < len(has & set(ITEMS)) < len(ITEMS)
    for one, other in zip(before, after, strict=True):
        moved = {item for item, by in zip(ITEMS, (one - other).abs().amax(1), strict=True) if by > 1e-5}
        assert moved == has & set(ITEMS)


def test_all_that_a_model_without_tasks_has_learns(tmp_path: Path):
    tasks = "; ".join(f"domains.{name}.tasks={{}}" for name in ("find", "home", "new"))
    events = random_events(1, {"find": 10, "home": 60, "new": 10})
    encoder = encoder_of(write_contents(tmp_path, events, SETTINGS, tasks))
    model = model_of(encoder).train()
    assert model.dense.represent.encoder.owners == {"item": ("id", "text", "blurb", "clip", "sparse")}
    loss, _ = model(encoder.assemble([encoder.no_rows()], 8, encoder.items(trained=True).take(np.arange(4))))
    loss.backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []
