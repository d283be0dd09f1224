from dataclasses import replace

import pytest
import torch

from foundrank.model.foundation.foundation import Foundation
from foundrank.model.layers.forms import EVERY
from foundrank.model.representation.embedding_tables import materialise

HEADS = ["mmoe", "ple", "star", "shared_bottom"]
VARIANTS = [
    {},
    {"gate": "mean"},
    {"gate": "mean_gate", "alignment": "mmd"},
    {"gate": "cls_gate", "alignment": "none"},
    {"head": "ple"},
    {"head": "star"},
    {"head": "shared_bottom"},
    {"interaction": False},
    {"aspects": ("id",)},
    {"aspects": ("text", "sparse")},
    {"domain_width": 0},
    {"gate": "none"},
    {"gate": "none", "domain_width": 0, "alignment": "none", "shared_head": True, "tower_widths": (6, 3)},
    {"shared_head": True, "alignment": "none"},
]


@pytest.fixture
def model(layout, config):
    def make(precision: str = "fp32", layout=layout, **changes) -> Foundation:
        torch.manual_seed(0)
        model = Foundation(layout, config(**changes), batch_size=16, precision=precision)
        materialise(model, seed=1)
        return model

    return make


def test_outputs(model, layout, make_batch):
    batch = make_batch(layout, [5, 0, 4])
    loss, out = model(alignment_weight=0.5)(batch)
    weights = torch.tensor(layout.task_weights)
    torch.testing.assert_close(loss, (out.losses * weights).sum() / 16 + 0.5 * out.alignment)
    assert out.logits.shape == (9, 2)
    assert out.alignment > 0
    assert out.counts.sum() == batch.label_mask.sum()
    assert {owner: tuple(g.shape) for owner, g in out.gates.items()} == {
        "user": (9, 2), "query": (9, 2), "item": (9, 3), "history": (9, 2), "context": (9, 1),
    }  # fmt: skip
    assert not any(t.requires_grad for t in [out.logits, out.losses, *out.gates.values()])


def test_meta_tables_and_one_dense_module(layout, config):
    model = Foundation(layout, config(), batch_size=16)
    assert [name for name, _ in model.named_children()] == ["embeddings", "dense"]
    assert all(p.is_meta for p in model.embeddings.parameters())
    assert not any(p.is_meta for p in model.dense.parameters())


def test_forward_can_be_traced_with_dense_as_one_step(model):
    class Tracer(torch.fx.Tracer):
        def is_leaf_module(self, m, module_qualified_name):
            return module_qualified_name in ("embeddings", "dense")

    graph = Tracer().trace(model())
    assert [n.target for n in graph.nodes if n.op == "call_module"] == ["embeddings", "dense"]


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
@pytest.mark.parametrize("case", ["full", "one domain", "nothing present", "no rows"])
def test_every_parameter_gets_a_gradient_from_every_batch(variant, case, model, layout, make_batch):
    batch = {
        "full": lambda: make_batch(layout, [5, 3, 4]),
        "one domain": lambda: make_batch(layout, [0, 3, 0]),
        "nothing present": lambda: make_batch(layout, [2, 0, 2], absent=True),
        "no rows": lambda: make_batch(layout, [0, 0, 0], padding=2),
    }[case]()
    net = model(**variant)
    loss, _ = net(batch)
    loss.backward()
    for name, parameter in net.dense.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    if case == "no rows":
        assert loss.item() == 0
        assert all(p.grad.eq(0).all() for p in net.dense.parameters())


@pytest.mark.parametrize("head", HEADS)
def test_padding_changes_nothing(head, model, layout, make_batch):
    net = model(head=head)
    loss, out = net(make_batch(layout, [5, 3, 4]))
    padded_loss, padded = net(make_batch(layout, [5, 3, 4], padding=7))
    torch.testing.assert_close(loss, padded_loss, rtol=0, atol=0)
    torch.testing.assert_close(out.logits, padded.logits, rtol=0, atol=0)
    loss.backward()
    before = {n: p.grad.clone() for n, p in net.named_parameters()}
    net.zero_grad()
    padded_loss.backward()
    for name, parameter in net.named_parameters():
        torch.testing.assert_close(parameter.grad, before[name], rtol=0, atol=0)


def test_one_who_predicts_gets_the_same_logits_and_no_losses(model, layout, make_batch):
    net = model(alignment_weight=0.5).eval()
    batch = make_batch(layout, [5, 3, 4])
    _, asked = net(batch)
    with torch.no_grad():
        loss, out = net(batch)
    torch.testing.assert_close(out.logits, asked.logits)
    assert asked.losses.any()
    assert not any(value.any() for value in (loss, out.losses, out.counts, out.alignment))
    assert out.losses.shape == asked.losses.shape


def test_a_row_does_not_see_the_others(model, layout, make_batch):
    net = model().eval()
    batch = make_batch(layout, [5, 3, 4])
    whole = net(batch)[1].logits
    rows = batch.domains == 1
    lengths = batch.sparse.lengths().view(len(layout.keys), -1)
    values = batch.sparse.values().split(batch.sparse.lengths().tolist())
    kept = [values[k * 12 + r] for k in range(len(layout.keys)) for r in range(5, 8)]
    alone = replace(
        batch,
        sparse=type(batch.sparse).from_lengths_sync(list(layout.keys), torch.cat(kept), lengths[:, 5:8].flatten()),
        vectors={n: v[rows] for n, v in batch.vectors.items()},
        vector_present={n: v[rows] for n, v in batch.vector_present.items()},
        domain_lengths=[0, 3, 0],
        **{n: getattr(batch, n)[rows] for n in ("dense", "id_counts", "labels", "label_mask", "domains")},
    )
    torch.testing.assert_close(net(alone)[1].logits, whole[rows])


@pytest.mark.parametrize("head", ["mmoe", "ple", "shared_bottom"])
@pytest.mark.parametrize("domain_width", [0, 8])
def test_gradients_do_not_depend_on_which_columns_experts_take_for_learned(
    head, domain_width, model, layout, make_batch
):
    batch, found = make_batch(layout, [5, 0, 4]), []
    for every in (False, True):
        made = model(gate="none", head=head, domain_width=domain_width, alignment="none")
        experts = made.dense.head.bottom if head == "shared_bottom" else made.dense.head.experts
        if every:
            experts.learned = EVERY
        made(batch)[0].backward()
        found.append({name: parameter.grad for name, parameter in made.named_parameters()})
    torch.testing.assert_close(*found)


def test_masked_values_reach_nothing(model, layout, make_batch):
    """What a batch holds where something is said to be missing is never read."""
    net = model().eval()
    batch = make_batch(layout, [5, 3, 4])
    loss, out = net(batch)
    batch.labels = torch.where(batch.label_mask, batch.labels, 1.0)
    batch.vectors["text_item"] = torch.where(
        batch.vector_present["text_item"][:, None], batch.vectors["text_item"], 5.0
    )
    again, same = net(batch)
    torch.testing.assert_close(out.logits, same.logits)
    torch.testing.assert_close(loss, again)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_precision(precision, model, layout, make_batch):
    batch = make_batch(layout, [5, 3, 4])
    loss, out = model(precision)(batch)
    loss.backward()
    assert loss.dtype == out.logits.dtype == out.gates["item"].dtype == torch.float32
    reference = model()(batch)[1].logits
    torch.testing.assert_close(out.logits, reference, rtol=0.05, atol=0.05)
    assert torch.equal(out.logits, reference) == (precision == "fp32")


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_every_variant_overfits_a_tiny_batch(variant, model, layout, make_batch):
    batch = make_batch(layout, [6, 5, 5], seed=4)
    batch.id_counts.clamp_(min=1)
    net = model(**variant)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
    for _ in range(45):
        optimizer.zero_grad()
        loss, out = net(batch)
        loss.backward()
        optimizer.step()
    assert out.losses.sum() / out.counts.sum() < 0.2


def test_optional_parts_may_be_absent(model, layout, make_batch):
    bare = replace(
        layout, history=False, keys=tuple(k for k in layout.keys if k != "history"),
        lists=tuple(k for k in layout.lists if k != "history"), contents_of={}, vectors={}, vectors_of={}, sparse_of={}, dense_of={}, dense=()
    )  # fmt: skip
    net = model(layout=bare)
    loss, out = net(make_batch(bare, [5, 3, 4]))
    loss.backward()
    assert set(out.gates) == {"user", "query", "item"}
    assert all(p.grad is not None for p in net.dense.parameters())
