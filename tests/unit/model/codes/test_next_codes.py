"""The objective of finding the next item by its codes, in a whole model."""

from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from foundrank.data.batch.row_encoder import RowEncoder
from foundrank.data.counting.counting_pass import count
from foundrank.data.events.check_events import check_events
from foundrank.dist.ranks.runtime import ALONE
from foundrank.dist.tokenize.tokenize import tokenize
from foundrank.model.codes.parallel import ParallelDecoder
from foundrank.model.foundation.foundation import Foundation
from foundrank.model.representation.embedding_tables import materialise
from tests.coded_world import ITEMS, catalog, opened, write_world

WITHOUT, ROWS = 3, 40
DECODERS = ["parallel", "{kind: autoregressive, heads: 1, dropout: 0}"]
EXPERTS = "{kind: autoregressive, heads: 1, dropout: 0, experts: 3}"
AMONG = "parallel, in_batch: 1000"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory):
    """Items with codes, but for one of them."""
    path = write_world(tmp_path_factory.mktemp("next"), users=ROWS)
    rows = catalog(range(ITEMS)).to_pylist()
    rows[WITHOUT]["look"] = None
    pq.write_table(pa.Table.from_pylist(rows, catalog([]).schema), path.parent / "items.parquet")
    tokenize(opened(path), ALONE)
    return path


def found(path, decoder: str, rows: list[dict], positions: str = "last", aspects: str = "codes"):
    """A model's loss of some rows, what it tells, and its weights' gradients."""
    experiment = opened(
        path,
        f"model.next_item={{target: codes, decoder: {decoder}, positions: {positions}}}",
        *(f"model.aspects=[{aspects}]", "model.hide_rare_items=0", "model.id_dropout=0"),
    )
    events = check_events(experiment, ["train"])
    encoder = RowEncoder(experiment, count(experiment, {name: of["train"] for name, of in events.items()}))
    schema = pq.read_schema(path.parent / "home.train.parquet")
    table = pa.Table.from_pylist(rows, schema=schema)
    batch = encoder.assemble([encoder.encode("home", table, "rows")], ROWS)
    torch.manual_seed(0)
    model = Foundation(encoder.layout, experiment.model, ROWS)
    materialise(model, 0)
    model.train()
    loss, outputs = model(batch)
    loss.backward()
    return loss, outputs.next_item, model


def rows_of(path) -> list[dict]:
    return pq.read_table(path.parent / "home.train.parquet").to_pylist()


@pytest.mark.parametrize("decoder", DECODERS)
def test_the_loss_is_a_sum_over_rows_whose_item_has_codes(world, decoder):
    rows = rows_of(world)
    assert WITHOUT in [row["item"] for row in rows] or rows[0].update(item=WITHOUT) is None
    loss, told, _ = found(world, decoder, rows)
    coded = [row for row in rows if row["item"] != WITHOUT]
    assert told[1] == len(coded) < len(rows)
    torch.testing.assert_close(loss.detach(), told[0] / ROWS)
    less, told_less, _ = found(world, decoder, coded)
    assert told_less[1] == len(coded)
    torch.testing.assert_close(less, loss, rtol=1e-4, atol=1e-4)
    each = [found(world, decoder, [row])[1][0] for row in coded[:3]]
    torch.testing.assert_close(found(world, decoder, coded[:3])[1][0], sum(each), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("decoder", DECODERS)
def test_past_items_are_found_too_where_all_positions_are(world, decoder):
    rows = rows_of(world)
    _, told, _ = found(world, decoder, rows, "all")
    to_find = [item for row in rows for item in [*row["history"][1:], row["item"]]]
    assert told[1] == sum(item != WITHOUT for item in to_find)


@pytest.mark.parametrize("decoder", [*DECODERS, AMONG, EXPERTS])
@pytest.mark.parametrize(
    "rows",
    [[], [{"user": 1, "item": WITHOUT, "history": [1, 2]}], [{"user": 1, "item": 5, "history": []}]],
    ids=["none", "without codes", "without a past"],
)
def test_every_parameter_has_a_gradient_whatever_there_is_to_find(world, decoder, rows):
    loss, _, model = found(world, decoder, rows, "all")
    assert torch.isfinite(loss)
    for name, parameter in model.dense.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


def test_whole_items_are_told_from_those_of_other_rows_that_weigh_less_for_being_popular(world, monkeypatch):
    seen = []
    monkeypatch.setattr(ParallelDecoder, "losses_among", lambda self, *of: seen.append(of) or of[0].sum(1) * 0)
    rows = rows_of(world)
    found(world, AMONG, rows)
    (_, codes, others, _, _) = seen[0]
    trained = [pq.read_table(file, columns=["item"])["item"] for file in world.parent.glob("*.train.parquet")]
    counts = Counter(item for column in trained for item in column.to_pylist() if item is not None)
    mean = sum(counts.values()) / len(counts)
    coded = [row["item"] for row in rows if row["item"] != WITHOUT]
    assert len(others.codes) == len(codes) == len(rows)
    weights = sorted(others.weights[others.weights > 0].tolist())
    assert weights == pytest.approx(sorted(mean / counts[item] for item in coded))
    found(world, "parallel, in_batch: 7", rows)
    assert len(seen[1][2].codes) == 7


@pytest.mark.parametrize("aspects", ["codes", "id, codes", "id"])
def test_what_states_are_made_of_is_what_they_are_compared_with(world, aspects):
    _, _, model = found(world, "parallel", rows_of(world), aspects=aspects)
    of_aspect = [name for name, _ in model.named_parameters() if name.endswith("embeddings.weight")]
    own = [name for name, _ in model.named_parameters() if name.endswith("decoder.codes")]
    assert (len(of_aspect), len(own)) == ((0, 1) if aspects == "id" else (1, 0))
    decoder, shared = model.dense.history.objective.decoder, model.dense.represent.encoder.code_embeddings("codes")
    states = torch.randn(3, model.dense.represent.encoder.width)
    with torch.no_grad():
        before = decoder.of_user(states, shared)
        dict(model.named_parameters())[(of_aspect + own)[0]].normal_()
        assert not torch.allclose(decoder.of_user(states, shared), before)
    assert dict(model.named_parameters())[(of_aspect + own)[0]].grad.abs().sum() > 0
