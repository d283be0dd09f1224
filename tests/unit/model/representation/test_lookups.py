"""What the tables say of a batch, by key."""

import pytest
import torch
from torch import nn
from torchrec import KeyedTensor

from foundrank.model.foundation.foundation import Foundation
from foundrank.model.representation.embedding_tables import make_embeddings, materialise
from foundrank.model.representation.lookups import looked_up


@pytest.fixture
def pooled(layout, make_batch):
    """A padded batch, the tables, and their sums."""
    model, batch = nn.Module(), make_batch(layout, [4, 3, 2], padding=3)
    model.embeddings = make_embeddings(layout, 8)
    materialise(model, seed=3)
    return batch, model.embeddings, model.embeddings(batch.sparse)


def shuffled(pooled: KeyedTensor, order: list[str]) -> KeyedTensor:
    """The same lookups, as a plan with another order of keys gives them."""
    parts = pooled.to_dict()
    assert sorted(order) == sorted(parts)
    return KeyedTensor(order, [parts[key].shape[1] for key in order], torch.cat([parts[key] for key in order], 1))


def test_ids_are_rows_and_lists_are_means(layout, pooled):
    batch, embeddings, sums = pooled
    found = looked_up(sums, batch, layout)
    assert set(layout.lists) == {"history", "feature_likes"}
    assert found.keys() == set(layout.keys)
    for key, bags in batch.sparse.to_dict().items():
        weight = embeddings.embedding_bags[layout.table_of[key]].weight
        means = [weight[bag].mean(0) if len(bag) else torch.zeros(8) for bag in bags.to_dense()[: batch.rows]]
        torch.testing.assert_close(found[key], torch.stack(means))


@pytest.mark.parametrize("gate", ["none", "mean", "domain_count_gate"])
def test_the_order_of_a_plan_changes_nothing(layout, config, make_batch, pooled, gate):
    batch, _, sums = pooled
    options = {"gate": gate} | ({"aspects": ["id", "sparse"]} if gate == "none" else {})
    torch.manual_seed(0)
    dense = Foundation(layout, config(**options), 8).dense
    wanted, outputs = dense(sums, batch)
    other = shuffled(sums, sorted(layout.keys, reverse=True))
    assert other.keys() != sums.keys()
    loss, again = dense(other, batch)
    torch.testing.assert_close(loss, wanted, rtol=0, atol=0)
    torch.testing.assert_close(again.logits, outputs.logits, rtol=0, atol=0)
