"""What the tables say of a batch, by key."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torchrec import KeyedJaggedTensor, KeyedTensor

from foundrank.model.foundation.foundation import Foundation
from foundrank.model.representation.embedding_tables import make_embeddings, materialise
from foundrank.model.representation.lookups import GroupedLookups, looked_up, side_by_side


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


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("every", [False, True])
def test_keys_that_are_taken_together_are_what_they_are_alone(layout, pooled, every, backwards):
    batch, _, sums = pooled
    sums = shuffled(sums, [*layout.keys][::-1] if backwards else [*layout.keys])
    likes = ("feature_likes", "feature_shelf")
    groups = [*[(key,) for key in layout.keys if key not in likes][: None if every else 2], likes]
    values = sums.values().detach().requires_grad_()
    sums = KeyedTensor(sums.keys(), sums.length_per_key(), values)
    alone, together = looked_up(sums, batch, layout), GroupedLookups(layout, groups)(sums, batch)
    upstream = torch.randn(batch.rows, 8 * sum(len(group) for group in groups))
    found = []
    for lookups in (alone, together):
        parts = torch.cat([part for group in groups for part in side_by_side(lookups, group)], 1)
        found.append((parts, *torch.autograd.grad(parts, values, upstream)))
    torch.testing.assert_close(*found, rtol=0, atol=0)
    assert torch.equal(together[groups[0][0]], alone[groups[0][0]])


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


def test_a_list_with_weights_is_their_mean(layout, make_batch):
    """Of weights that are 1 on the mean, as the row encoder gives them; all other lookups have weights of 1."""
    batch = make_batch(layout, [4, 3, 2], padding=3)
    weighted = replace(layout, weighted_lists=("feature_likes",))
    model = nn.Module()
    model.embeddings = make_embeddings(weighted, 8)
    materialise(model, seed=3)
    bags = batch.sparse.to_dict()["feature_likes"].to_dense()
    raw = [torch.arange(1.0, len(bag) + 1) for bag in bags]
    starts = batch.sparse.offset_per_key()[list(layout.keys).index("feature_likes")]
    weights = torch.ones(len(batch.sparse.values()))
    told = torch.cat([of * len(of) / of.sum() for of in raw])
    weights[starts : starts + len(told)] = told
    sparse = KeyedJaggedTensor(list(layout.keys), batch.sparse.values(), weights, batch.sparse.lengths())
    found = looked_up(model.embeddings(sparse), batch, weighted)
    weight = model.embeddings.embedding_bags["feature_likes"].weight
    means = [of @ weight[bag] / of.sum() if len(bag) else torch.zeros(8) for bag, of in zip(bags, raw, strict=True)]
    torch.testing.assert_close(found["feature_likes"], torch.stack(means[: batch.rows]))
    plain = looked_up(make_and_fill(layout)(batch.sparse), batch, layout)
    torch.testing.assert_close(found["id_item"], plain["id_item"])


def make_and_fill(layout):
    model = nn.Module()
    model.embeddings = make_embeddings(layout, 8)
    materialise(model, seed=3)
    return model.embeddings
