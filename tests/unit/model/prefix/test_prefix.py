"""What a prefix is made of: features and contents of the user, a query, a preference."""

import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from foundrank.data.batch.batch import Batch
from foundrank.data.batch.row_encoder import RowEncoder
from foundrank.data.config.load import load_experiment
from foundrank.data.errors import UserError
from foundrank.model.foundation.foundation import Foundation
from foundrank.model.foundation.transfer import transferred
from foundrank.model.kinds import KINDS
from foundrank.model.layers.axes import axes_of
from foundrank.model.representation.embedding_tables import materialise
from tests.tiny_world import SCHEMAS, encoder_of, random_events, write_world

TASTE = "entities.user.contents={taste: {vector: query_vector, size: 2, source: events}}"
ONLY_SEARCHED = "only=[find]"
MODEL = "model={{embedding_dim: 8, width: 8, id_dropout: 0, history: {{encoder: {0}, dropout: 0, prefix: {1}}}, next_item: {{loss: softmax, positions: all}}}}"
ROW = dict.fromkeys(SCHEMAS["find"].names) | {"history": [1, 2], "item": 3, "click": 1.0}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prefix")
    write_world(folder, random_events(1, {"find": 60, "home": 40, "new": 10}))
    return folder


def made(world: Path, prefix: str, encoder: str = "sasrec", *more: str) -> tuple[RowEncoder, Foundation]:
    settings = [TASTE, ONLY_SEARCHED, MODEL.format(encoder, prefix), *more]
    rows = encoder_of(load_experiment(world, settings, kinds=KINDS))
    torch.manual_seed(1)
    model = Foundation(rows.layout, rows.experiment.model, 8)
    materialise(model, 1)
    return rows, model


def batch_of(encoder: RowEncoder, *rows: dict) -> Batch:
    table = pa.Table.from_pylist([ROW | row for row in rows], schema=SCHEMAS["find"])
    encoded = encoder.encode("find", table, "here")
    return encoder.assemble([encoded], 8, encoder.items(trained=True).take(np.arange(4)))


def states(encoder: RowEncoder, model: Foundation, *rows: dict) -> torch.Tensor:
    model.eval()
    with torch.no_grad():
        return model(batch_of(encoder, *rows))[1].user


@pytest.mark.parametrize("encoder", ["sasrec", "hstu"])
@pytest.mark.parametrize(
    ("prefix", "told", "not_told"),
    [
        ("[user]", {"clicks": 5}, {"query": "q 1", "intent": "1"}),
        ("[query]", {"query": "q 1"}, {"clicks": 5}),
        ("[query]", {"intent": "1"}, {"clicks": 5}),
        ("[context]", {"slot": "s1"}, {"clicks": 5, "query": "q 1"}),
        ("[taste]", {"query_vector": [1.0, -2.0]}, {"clicks": 5, "intent": "1"}),
        ("[user, query, taste]", {"clicks": 5, "intent": "1", "query_vector": [1.0, -2.0]}, {"slot": "s1"}),
    ],
)
def test_a_state_depends_on_what_is_in_the_prefix_and_on_nothing_else(world, encoder, prefix, told, not_told):
    rows, model = made(world, prefix, encoder)
    plain, known, other = states(rows, model, {}, told, not_told)
    assert (plain - known).abs().max() > 1e-4
    torch.testing.assert_close(plain, other)


def test_a_new_user_has_a_state_where_there_is_a_prefix(world):
    rows, model = made(world, "[taste]")
    nothing, told = states(rows, model, {"history": []}, {"history": [], "query_vector": [1.0, -2.0]})
    assert not nothing.any()
    assert told.any()


def test_every_parameter_learns_and_rows_do_without_at_random(world):
    rows, model = made(world, "[user, query, taste]")
    filled = {"clicks": 5, "intent": "1", "query": "q 1", "query_vector": [1.0, -2.0], "user": "u1"}
    batch = batch_of(rows, *[filled] * 6)
    history = model.train().dense.history
    assert history is not None
    prefix = history.prefix
    assert prefix is not None
    shown = torch.stack([prefix(model.embeddings(batch.sparse), batch)[1] for _ in range(200)]).float().mean((0, 1))
    assert ((shown > 0.42) & (shown < 0.58)).all(), shown
    prefix.dropout = 0.0
    loss, _ = model(batch)
    loss.backward()
    assert all(p.grad is not None for p in model.dense.parameters())
    assert all(p.grad.any() for name, p in prefix.named_parameters() if "sparse" not in name)
    loss, _ = model(batch_of(rows))  # a batch without rows
    model.zero_grad()
    loss.backward()
    assert all(p.grad is not None for p in prefix.parameters())


def test_places_are_carried_into_another_model_by_their_names(world):
    old, new = (made(world, prefix)[1].dense.history.prefix for prefix in ("[taste, user]", "[user, query, taste]"))
    found = transferred(old.kinds, *(axes_of(each)["kinds"] for each in (old, new)), {})
    torch.testing.assert_close(found[[2, 0]], old.kinds)
    assert {name for name, _ in old.named_parameters()} < {name for name, _ in new.named_parameters()}


@pytest.mark.parametrize(
    ("prefix", "more", "said"),
    [
        ("[tastes]", [], "prefix.0: 'tastes' is none of user, query, context, and no content of entities.user"),
        ("[taste, taste]", [], "prefix.1: is 'taste', which is there already"),
        ("[user]", ["entities.user.features={}"], "has neither features nor contents beside those"),
        ("[context]", ["context={}", "domains.find.features={}"], "is 'context', and events have no features but those with bias: true"),
        ("[query]", ["domains.find.kind=recommendation"], "no domain is a search domain"),
        ("[likes]", ["entities.user.contents.likes={text: '{segment}'}", "text.vectors=none", "entities.item.text=null"], "has no vectors"),
    ],
)  # fmt: skip
def test_a_place_that_nothing_could_be_in_is_refused(world, prefix: str, more: list[str], said: str):
    given = [ONLY_SEARCHED, *([TASTE] if "taste" in prefix else []), *more, MODEL.format("sasrec", prefix)]
    with pytest.raises(UserError, match=re.escape(said)):
        load_experiment(world, given, kinds=KINDS)


@pytest.mark.parametrize("encoder", ["sasrec", "hstu"])
def test_a_share_of_rows_without_places_needs_places(world, encoder: str):
    settings = f"model={{history: {{encoder: {encoder}, prefix_dropout: 0.2}}}}"
    with pytest.raises(UserError, match="prefix_dropout: has no effect without prefix"):
        load_experiment(world, [settings], kinds=KINDS)
