"""Features with ``bias``: they move the logits of training through their tower, and nothing else; scores do without them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torchrec import KeyedJaggedTensor, KeyedTensor

from foundrank.data.batch.batch import Batch
from foundrank.data.batch.result_lists import ResultLists
from foundrank.data.schema.layout import BIAS, Layout, make_layout
from foundrank.model.foundation.foundation import Foundation
from foundrank.model.foundation.transfer import transferred
from foundrank.model.heads.bias_tower import BiasTower
from foundrank.model.layers.axes import axes_of, levels_of, named
from foundrank.model.representation.embedding_tables import materialise

from ..conftest import TEXT, small_experiment

SLOT, DEPTH = {"kind": "categorical", "bias": True}, {"kind": "dense", "bias": True}


def with_bias(**context) -> Layout:
    experiment = small_experiment(context)
    keys = [key for name, f in experiment.features().items() for key in f.inputs(name).keys]
    tables = dict.fromkeys(["id_user", "id_query", "id_item", *keys], 20)
    return make_layout(experiment, tables, {"query": TEXT, "item": TEXT})


@pytest.fixture(scope="module")
def biased() -> Layout:
    """The small layout with two features of the context that have ``bias``, a position and its depth in pixels."""
    return with_bias(position=SLOT, pixels=DEPTH)


def model_of(layout: Layout, config) -> Foundation:
    torch.manual_seed(0)
    model = Foundation(layout, config, batch_size=16)
    materialise(model, seed=1)
    tower = model.dense.bias_tower
    if tower is not None:
        torch.nn.init.normal_(tower.weight)
        torch.nn.init.normal_(tower.hidden)
    return model


def moved(batch: Batch, layout: Layout) -> Batch:
    """The same rows in other positions."""
    jagged = batch.sparse.to_dict()
    at = list(layout.keys).index("feature_position")
    lengths = batch.sparse.lengths().view(len(layout.keys), -1).clone()
    lengths[at] = 1
    values = [jagged[key].values() for key in layout.keys]
    values[at] = torch.arange(lengths.shape[1]) % 20
    dense = batch.dense.clone()
    dense[:, layout.dense.index("pixels")] += 1
    return replace(
        batch, dense=dense, sparse=KeyedJaggedTensor(list(layout.keys), torch.cat(values), lengths=lengths.flatten())
    )


@pytest.mark.parametrize(
    "variant",
    [{}, {"gate": "none"}, {"gate": "none", "domain_width": 0}, {"shared_head": True, "alignment": "none"}],
    ids=str,
)
def test_scores_do_not_know_of_positions_and_training_does_through_the_tower_alone(biased, config, make_batch, variant):
    model, batch = model_of(biased, config(**variant, bias_dropout=1e-9)), make_batch(biased, [5, 3, 4])
    other = moved(batch, biased)
    assert biased.dense[-1] == "pixels"
    (_, one), (_, two) = model(batch), model(other)
    assert (one.logits != two.logits).any(1).all()
    assert torch.equal(one.alignment, two.alignment)
    assert all(torch.equal(one.gates[owner], two.gates[owner]) for owner in one.gates)
    model.eval()
    (_, first), (_, second) = model(batch), model(other)
    assert torch.equal(first.logits, second.logits)
    tower, model.dense.bias_tower = model.dense.bias_tower, None
    _, without = model.train()(batch)
    torch.testing.assert_close(without.logits + 10 * tower.hidden[batch.domains], first.logits)
    pooled, at = model.embeddings(batch.sparse), batch.domains
    x = torch.cat([pooled["feature_position"], batch.dense[:, -1:]], 1)
    shown = torch.einsum("bi,boi->bo", x, tower.weight[at])
    torch.testing.assert_close(one.logits, without.logits + shown)


def test_a_share_of_the_rows_is_hidden_and_the_seed_says_which(biased, config, make_batch):
    model, batch = model_of(biased, config(bias_dropout=0.4)), make_batch(biased, [60, 70, 70])
    base = model.eval()(batch)[1].logits
    hidden = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        hidden.append((model.train()(batch)[1].logits - base).abs().amax(1) < 1e-6)
    assert 50 < hidden[0].sum() < 110
    assert torch.equal(hidden[0], hidden[1])
    assert not torch.equal(hidden[0], hidden[2])


@pytest.mark.parametrize("lengths", [[5, 3, 4], [0, 3, 0], [0, 0, 0]], ids=str)
@pytest.mark.parametrize("share", [1e-9, 1 - 1e-9])
def test_all_its_parameters_get_a_gradient_and_are_towers(biased, config, make_batch, lengths, share):
    model = model_of(biased, config(bias_dropout=share))
    model(make_batch(biased, lengths, padding=2))[0].backward()
    assert all(p.grad is not None for p in model.dense.parameters())
    levels = levels_of(model)
    assert {levels[f"dense.bias_tower.{name}"] for name in ("weight", "hidden")} == {"L3"}


def test_fine_tuning_with_another_feature_keeps_what_is_known_of_the_others(biased, config):
    other = with_bias(slot=SLOT, position=SLOT)
    old, new = (model_of(each, config()) for each in (biased, other))
    before, after = axes_of(old.dense)["bias_tower.weight"], axes_of(new.dense)["bias_tower.weight"]
    value = transferred(old.dense.bias_tower.weight.detach(), before, after, {})
    known = value[..., [name.startswith("feature_position") for name in after[-1].names]]
    torch.testing.assert_close(known, old.dense.bias_tower.weight[..., :-1])
    assert not value[..., [name.startswith("feature_slot") for name in after[-1].names]].any()
    assert "bias_tower.weight" not in axes_of(model_of(with_bias(), config()).dense)


def test_without_such_features_nothing_of_it_is_there(layout, config):
    assert BIAS not in layout.sparse_of
    assert not [name for name, _ in model_of(layout, config()).named_parameters() if "bias_tower" in name]


def test_it_recovers_the_order_that_positions_have_spoilt(biased, config):
    """The policy shows every item in its own position, nearly always, and knows nothing: clicks follow positions, not items."""
    random, items, rows, places = np.random.default_rng(0), 12, 256, 4
    quality, place_of = random.permutation(np.linspace(-1.5, 1.5, items)), random.integers(places, size=items)

    def batch() -> Batch:
        item = random.integers(items, size=rows)
        place = np.where(random.random(rows) < 0.3, random.integers(places, size=rows), place_of[item])
        click = random.random(rows) < 1 / (1 + np.exp(1.5 * place - 1 - quality[item]))
        lengths = torch.zeros(len(biased.keys), rows, dtype=torch.int64)
        ids = {"id_item": item, "feature_position": place}
        for key in ids:
            lengths[biased.keys.index(key)] = 1
        values = torch.cat([torch.from_numpy(ids[key] + 1) for key in biased.keys if key in ids])
        labels = torch.zeros(rows, len(biased.tasks))
        labels[:, biased.tasks.index("click")] = torch.from_numpy(click.astype(np.float32))
        counts = torch.full((rows, len(biased.entities)), -1.0)
        counts[:, biased.entities.index("item")] = 9
        return Batch(
            sparse=KeyedJaggedTensor(list(biased.keys), values, lengths=lengths.flatten()),
            dense=torch.zeros(rows, len(biased.dense)),
            vectors={name: torch.zeros(rows, size) for name, size in biased.vectors.items()},
            vector_present={name: torch.zeros(rows, dtype=torch.bool) for name in biased.vectors},
            id_counts=counts,
            labels=labels,
            label_mask=labels.new_ones(labels.shape, dtype=torch.bool)
            & (torch.arange(len(biased.tasks)) == biased.tasks.index("click")),
            domains=torch.ones(rows, dtype=torch.int64),
            domain_lengths=[0, rows, 0],
        )

    correlation = {}
    for told in (True, False):
        random = np.random.default_rng(1)
        model = model_of(biased, config(aspects=("id",), alignment="none", domain_width=0))
        torch.nn.init.zeros_(model.dense.bias_tower.weight)
        torch.nn.init.zeros_(model.dense.bias_tower.hidden)
        if not told:
            model.dense.bias_tower = None
        optimizer = torch.optim.Adam(model.parameters(), 0.02)
        for _ in range(150):
            optimizer.zero_grad()
            model(batch())[0].backward()
            optimizer.step()
        every = batch()
        with torch.no_grad():
            logits = model.eval()(every)[1].logits[:, biased.tasks.index("click")].numpy()
        item = every.sparse["id_item"].values().numpy() - 1
        scores = [logits[item == one].mean() for one in range(items)]
        correlation[told] = np.corrcoef(np.argsort(np.argsort(scores)), np.argsort(np.argsort(quality)))[0, 1]
    assert correlation[True] > 0.85 > correlation[False] + 0.1


def test_rows_of_a_list_are_hidden_together(biased, make_batch):
    """Else a list loss would compare rows with what their position adds with rows without it."""
    tower = BiasTower(biased, 8, named("domain", biased.domains), named("output", biased.outputs), 0.5)
    torch.nn.init.constant_(tower.hidden, 1.0)
    rows = [64, *[0] * (len(biased.domains) - 1)]
    lists = ResultLists(torch.arange(64) // 4, torch.full((16,), 4), 16 * 16)
    batch = replace(make_batch(biased, rows), lists=lists)
    pooled = KeyedTensor.from_tensor_list(list(biased.keys), [torch.zeros(64, 8)] * len(biased.keys))
    added = tower(torch.zeros(64, len(biased.outputs)), pooled, batch).view(16, 4, -1)
    assert (added == added[:, :1]).all()
    assert 0 < int((added == 0).all(2).all(1).sum()) < 16
