from dataclasses import replace

import pytest
import torch
from torchrec import KeyedJaggedTensor

from foundrank.data.batch.batch import Batch
from foundrank.data.schema.layout import Layout
from foundrank.model.foundation.foundation import Foundation
from foundrank.model.foundation.transfer import axes_with_lookups_in_order, new_positions, transferred
from foundrank.model.layers.axes import Axis, axes_of, named

VARIANTS = [
    {},
    {"gate": "mean_gate"},
    {"gate": "cls_gate"},
    {"gate": "domain_count_gate", "id_from_text": 0.1},
    {"head": "ple"},
    {"head": "star"},
    {"head": "shared_bottom"},
    {"domain_width": 0},
    {"domain_width": 0, "head": "star"},
    {"gate": "none"},
    {"gate": "none", "domain_width": 0, "head": "ple"},
    {"shared_head": True},
]


def filled(layout: Layout, config, seed: int) -> Foundation:
    """A model in evaluation mode whose every parameter is random."""
    torch.manual_seed(seed)
    model = Foundation(layout, config, batch_size=16).eval()
    with torch.no_grad():
        for parameter in model.dense.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    model.embeddings.to_empty(device="cpu")
    for parameter in model.embeddings.parameters():
        torch.nn.init.normal_(parameter)
    return model


def pretrained_into(old: Foundation, new: Foundation, mixtures) -> None:
    axes, values = [axes_of(model.dense) for model in (old, new)], dict(old.dense.named_parameters())
    with torch.no_grad():
        for name, parameter in new.dense.named_parameters():
            parameter.copy_(transferred(values[name], axes[0][name], axes[1][name], mixtures))
        tables = dict(old.embeddings.named_parameters())
        for name, parameter in new.embeddings.named_parameters():
            parameter.copy_(tables[name])


def without_features_of_d0(batch: Batch, layout: Layout) -> Batch:
    """Rows of other domains have none."""
    lengths = batch.sparse.lengths().view(len(layout.keys), -1).clone()
    values = dict(zip(layout.keys, batch.sparse.values().split(lengths.sum(1).tolist()), strict=True))
    for key in ("feature_shelf", "feature_hour"):
        lengths[layout.keys.index(key)] = 0
        values[key] = values[key][:0]
    batch.dense[:, layout.dense.index("depth")] = 0
    batch.sparse = KeyedJaggedTensor(list(layout.keys), torch.cat(list(values.values())), lengths=lengths.flatten())
    return batch


def as_seen_by(other: Layout, batch: Batch, layout: Layout, lengths: list[int]) -> Batch:
    """The same rows, as rows of the domains of another layout; the feature it has more is random."""
    jagged = batch.sparse.to_dict()
    dense = torch.randn(batch.rows, len(other.dense))
    for column, name in enumerate(other.dense):
        if name in layout.dense:
            dense[:, column] = batch.dense[:, layout.dense.index(name)]
    return replace(
        batch,
        sparse=KeyedJaggedTensor.from_jt_dict({key: jagged[key] for key in other.keys}),
        dense=dense,
        labels=batch.labels[:, :1],
        label_mask=batch.label_mask[:, :1],
        domains=torch.repeat_interleave(torch.arange(2), torch.tensor(lengths)),
        domain_lengths=lengths,
    )


@pytest.mark.parametrize("changes", VARIANTS)
def test_a_known_domain_is_predicted_as_before_and_a_new_one_as_what_it_is_mixed_of(
    changes, layout, other_layout, config, make_batch
):
    old, new = filled(layout, config(**changes), 0), filled(other_layout, config(**changes), 1)
    pretrained_into(old, new, {"kids": {"d2": 1.0}})
    batch = without_features_of_d0(make_batch(layout, [0, 6, 5]), layout)
    wanted = old(batch)[1].logits[:, :1]
    found = new(as_seen_by(other_layout, batch, layout, [6, 5]))[1].logits
    assert wanted.std() > 0.01
    torch.testing.assert_close(found, wanted)


def test_a_new_domain_is_a_mixture_and_a_new_task_a_mean(layout, other_layout, config):
    old = filled(layout, config(), 0)
    axes, values = axes_of(old.dense), dict(old.dense.named_parameters())
    there = axes_of(filled(other_layout, config(), 1).dense)
    mixtures = {"kids": {"d0": 0.25, "d2": 0.75}}
    found = transferred(values["domain_embedding"], axes["domain_embedding"], there["domain_embedding"], mixtures)
    d0, d1, d2 = values["domain_embedding"]
    torch.testing.assert_close(found, torch.stack([d1, 0.25 * d0 + 0.75 * d2]))
    back = transferred(
        found, there["domain_embedding"], axes["domain_embedding"], {"d0": {"d1": 1.0}, "d2": {"kids": 1.0}}
    )
    torch.testing.assert_close(back, torch.stack([d1, d1, found[1]]))
    bias = torch.randn(2, 1)  # of towers of one task
    wider = transferred(
        bias, there["head.towers.bias"], axes["head.towers.bias"], {"d0": {"d1": 1.0}, "d2": {"kids": 1.0}}
    )
    torch.testing.assert_close(wider, bias[[0, 0, 1]].expand(3, 2))


def test_a_new_output_is_the_mean_of_those_that_are_alike():
    old = named("output", ("click", "rating", "buy"), ("Binary/logit", "Ordinal/first", "Binary/logit"))
    new = named("output", ("rating", "spend", "fav"), ("Ordinal/first", "Value/logit", "Binary/logit"))
    values = torch.tensor([1.0, 10.0, 3.0])
    assert transferred(values, (old,), (new,), {}).tolist() == [10.0, 0.0, 2.0]
    old, new = (Axis("task", axis.size, axis.names, axis.alike) for axis in (old, new))
    torch.testing.assert_close(transferred(values, (old,), (new,), {}), torch.tensor([10.0, 14 / 3, 2.0]))


@pytest.mark.parametrize("changes", VARIANTS)
def test_the_same_layout_gets_the_same_weights(changes, layout, config):
    old = filled(layout, config(**changes), 0)
    axes = axes_of(old.dense)
    for name, value in old.dense.named_parameters():
        assert transferred(value, axes[name], axes[name], {}).equal(value)


def test_positions_are_new_where_any_axis_has_a_new_name():
    domains, inputs = [named("domain", names) for names in ("ab", "bc")], [named("in", names) for names in ("x", "xy")]
    old, new = (domains[0], "out", inputs[0]), (domains[1], "out", inputs[1])
    assert new_positions((2, 1, 2), old, new).tolist() == [[[False, True]], [[True, True]]]
    assert new_positions((2,), None, (domains[1],)).all()
    assert not new_positions((3, 4), ("out", Axis("in", 4)), ("out", Axis("in", 4))).any()


def test_a_model_that_represents_no_rows_has_axes_too(layout, config):
    options = config(history={"encoder": "sasrec"}, next_item={})
    weights = ((),) * len(layout.domains)
    without_tasks = replace(layout, past=6, tasks=(), task_kinds=(), task_weights=weights, outputs=())
    dense = Foundation(without_tasks, options, 4).dense
    assert axes_with_lookups_in_order(dense, ()) == axes_of(dense)
