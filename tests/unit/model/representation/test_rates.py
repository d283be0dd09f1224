"""What stands for the rates of ids that are unseen or hidden."""

from dataclasses import replace

import pytest
import torch

from foundrank.data.rates.rates import NOTHING_KNOWN
from foundrank.data.schema.layout import RATES, Layout
from foundrank.model.gates import GATES
from foundrank.model.representation.id_state import Hiding
from foundrank.model.representation.owner_vectors import OwnerVectors
from foundrank.model.representation.rates import Rates

NAMES = ("id_item.click.rate", "id_item.here.click.rate", "id_user.click.rate", "feature_shelf.click.rate")


@pytest.fixture
def with_rates(layout: Layout) -> Layout:
    """With four columns of rates behind its numbers."""
    first = len(layout.dense)
    columns = tuple(range(first, first + len(NAMES)))
    return replace(
        layout, dense=(*layout.dense, *NAMES), dense_of={**layout.dense_of, RATES: columns}, rates_in_folds=True
    )


@pytest.fixture
def rates(with_rates: Layout) -> Rates:
    """It gives what it has, so that columns can be looked at; what is unknown is 7."""
    torch.manual_seed(0)
    made = Rates(with_rates, len(NAMES))
    made.projection = torch.nn.Identity()
    torch.nn.init.constant_(made.unknown, 7)
    return made


def test_what_is_not_known_or_hidden_has_what_is_learned_and_no_id_what_it_has(rates, with_rates, make_batch):
    batch = make_batch(with_rates, [3, 2, 1])
    batch.dense = torch.arange(6.0)[:, None].expand(6, len(with_rates.dense)).clone()
    item, user = with_rates.entities.index("item"), with_rates.entities.index("user")
    batch.id_counts[:, item] = torch.tensor([0.0, 5, 5, -1, 0, 3])
    batch.id_counts[:, user] = torch.tensor([2.0, 2, 0, 2, 2, -1])
    columns = [with_rates.dense.index(name) for name in NAMES]
    batch.dense[0, columns[0]] = batch.dense[4, columns[3]] = batch.dense[2, columns[2]] = NOTHING_KNOWN
    known = batch.id_counts[:, item] > 0
    known[1] = False
    found = rates(batch, {"item": known})
    assert found[:, 0].tolist() == [7.0, 7, 2, 3, 4, 5]  # a count of 0 says nothing of labels
    assert found[:, 1].tolist() == [0.0, 7, 2, 3, 4, 5]
    assert found[:, 2].tolist() == [0.0, 1, 7, 3, 4, 5]
    assert found[:, 3].tolist() == [0.0, 1, 2, 3, 7, 5]


def test_in_order_of_time_everyone_has_what_is_known(with_rates, make_batch):
    made = Rates(replace(with_rates, rates_in_folds=False), len(NAMES))
    made.projection = torch.nn.Identity()
    batch = make_batch(with_rates, [3, 2, 1])
    batch.dense = torch.arange(6.0)[:, None].expand(6, len(with_rates.dense)).clone()
    assert torch.equal(made(batch, {"item": torch.zeros(6, dtype=torch.bool)}), batch.dense[:, -len(NAMES) :])
    assert not hasattr(made, "unknown")


def test_ids_are_hidden_with_their_rates(with_rates, make_batch):
    batch = make_batch(with_rates, [200, 0, 0])
    batch.vectors = {name: v.float() for name, v in batch.vectors.items()}
    torch.manual_seed(0)
    encoder = OwnerVectors(with_rates, (), 8, 6, GATES["mean"](), Hiding(0.5), False, False).train()
    pooled = {key: torch.randn(batch.rows, 8) for key in with_rates.keys}
    _, weights, known, _ = encoder(pooled, batch, torch.randn(batch.rows, 6))
    for entity in ("user", "item"):
        ids = encoder.owners[entity].index("id")
        assert torch.equal(known[entity], weights[entity][:, ids] > 0)
        assert 0.2 < known[entity].float().mean() < 0.8
