from collections.abc import Callable

import pytest
import torch

from foundrank.data.batch.batch import Batch
from foundrank.data.schema.layout import HISTORY, Layout
from foundrank.model.gates import GATES
from foundrank.model.representation.id_state import Hiding
from foundrank.model.representation.owner_vectors import OwnerVectors


def shown(hiding: Hiding, entity: str, count: float, others: bool = True) -> float:
    """The share of 20,000 rows with that count whose id is left."""
    torch.manual_seed(0)
    present = torch.tensor([True, others, False]).repeat(20_000, 1)
    left = hiding.hide(entity, present, torch.full((20_000,), count))
    assert torch.equal(left[:, 1:], present[:, 1:])
    return float(left[:, 0].float().mean())


@pytest.mark.parametrize("count", [1.0, 2.0, 8.0, 1e6])
def test_the_rarer_an_id_is_the_oftener_it_is_hidden(count: float):
    hiding = Hiding(0.2, {"item": 2.0, "user": 0.0})
    assert shown(hiding, "item", count) == pytest.approx(0.8 * count / (count + 2), abs=0.015)
    assert shown(hiding, "user", count) == shown(hiding, "query", count) == pytest.approx(0.8, abs=0.015)


def test_an_id_that_is_all_a_row_has_stays():
    assert shown(Hiding(0.9, {"item": 2.0}), "item", 1.0, others=False) == 1
    assert shown(Hiding(0.0), "item", 1.0) == 1
    assert shown(Hiding(0.0, {"item": 2.0}), "item", 2.0) == pytest.approx(0.5, abs=0.015)


def test_what_is_hidden_whatever_the_id_is_what_earlier_versions_hid():
    torch.manual_seed(3)
    wanted = torch.rand(50) >= 0.3
    torch.manual_seed(3)
    assert torch.equal(Hiding(0.3).hide("user", torch.ones(50, 2).bool(), torch.ones(50))[:, 0], wanted)


@pytest.fixture
def encoder(layout: Layout) -> Callable[..., OwnerVectors]:
    """An encoder whose learned vectors are not at zero, in evaluation."""

    def make(gate: str = "domain_gate", aspects: tuple[str, ...] = (), learned: bool = True, from_text: bool = False):
        torch.manual_seed(0)
        made = OwnerVectors(layout, aspects, 8, 6, GATES[gate](), Hiding(0.0), learned, from_text).eval()
        with torch.no_grad():
            for unknown in made.unknown_ids.values():
                unknown.vector.normal_()
        return made

    return make


@pytest.fixture
def batch(layout: Layout, make_batch) -> Batch:
    made = make_batch(layout, [30, 20, 10])
    made.vectors = {name: v.float() for name, v in made.vectors.items()}
    return made


def encoded(encoder: OwnerVectors, batch: Batch) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    torch.manual_seed(1)
    pooled = {key: torch.randn(batch.rows, 8) for key in encoder.layout.keys}
    return encoder(pooled, batch, torch.randn(batch.rows, 6))[:2]


@pytest.mark.parametrize("gate", [name for name in GATES if name != "none"])
def test_an_unseen_id_is_to_the_gate_what_an_id_with_that_vector_is(gate: str, encoder, layout: Layout, batch: Batch):
    made, item = encoder(gate), layout.entities.index("item")
    others = batch.vector_present["text_item"] | batch.vector_present["feature_image"]
    batch.id_counts[:, item] = 0
    fused, weights = encoded(made, batch)
    assert (weights["item"][others, 0] > 0).all()
    torch.testing.assert_close(weights["item"][others].sum(1), torch.ones(int(others.sum())))
    projection = made.id_projections["item"][1]
    with torch.no_grad():  # so that every id has this aspect
        projection.weight.zero_()
        projection.bias.copy_(made.unknown_ids["item"].vector)
    batch.id_counts[:, item] = 1e-6  # seen, and next to nothing to a gate that knows counts
    known, of_known = encoded(made, batch)
    torch.testing.assert_close(weights["item"][others], of_known["item"][others])
    torch.testing.assert_close(fused["item"][others], known["item"][others])


def test_masked_leaves_the_weight_to_the_other_aspects(encoder, layout: Layout, batch: Batch):
    batch.id_counts[:, layout.entities.index("item")] = 0
    made = encoder(learned=False)
    assert not made.unknown_ids
    assert encoded(made, batch)[1]["item"][:, 0].eq(0).all()


def test_where_nothing_else_is_known_nothing_stands_in(encoder, layout: Layout, batch: Batch):
    assert set(encoder().unknown_ids) == {"user", "query", "item"}
    assert set(encoder(aspects=("id", "text")).unknown_ids) == {"query", "item"}  # users have no text
    made = encoder(aspects=("id", "text"))
    batch.id_counts.clamp_(max=0)
    fused, weights = encoded(made, batch)
    for entity, text in (("item", "text_item"), ("query", "text_query")):
        lone = ~batch.vector_present[text]
        assert weights[entity][lone].eq(0).all()
        assert (weights[entity][~lone] > 0).all()
    absent = (batch.id_counts[:, layout.entities.index("query")] < 0) & ~batch.vector_present["text_query"]
    assert absent.any()
    assert all(torch.equal(row, made.no_query) for row in fused["query"][absent])


def test_the_text_comes_before_the_vector(encoder, layout: Layout, batch: Batch):
    made = encoder(from_text=True)
    batch.id_counts[:, layout.entities.index("item")] = 0
    before, _ = encoded(made, batch)
    with torch.no_grad():
        made.unknown_ids["item"].vector.add_(1)
    after, _ = encoded(made, batch)
    moved = (before["item"] != after["item"]).any(1)
    assert moved.any()
    assert torch.equal(moved, ~batch.vector_present["text_item"] & moved)


def test_a_history_of_unseen_items_has_the_vector_of_items(encoder, layout: Layout, batch: Batch):
    made = encoder()
    lengths = batch.sparse.lengths().view(len(layout.keys), -1)
    unseen = (lengths[layout.keys.index(HISTORY), : batch.rows] == 0) & batch.vector_present["text_history"]
    before, weights = encoded(made, batch)
    with torch.no_grad():
        made.unknown_ids["item"].vector.add_(1)
    after, _ = encoded(made, batch)
    assert unseen.any()
    assert (weights[HISTORY][unseen, 0] > 0).all()
    assert torch.equal((before[HISTORY] != after[HISTORY]).any(1), unseen)


def test_the_vector_learns_from_hidden_ids(layout: Layout, batch: Batch):
    made = OwnerVectors(layout, (), 8, 6, GATES["domain_gate"](), Hiding(0.5), True, False).train()
    encoded_in_training = encoded(made, batch)[0]
    sum(part.square().sum() for part in encoded_in_training.values()).backward()
    assert all(unknown.vector.grad.ne(0).any() for unknown in made.unknown_ids.values())
