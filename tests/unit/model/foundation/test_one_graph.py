"""The dense part compiled as one graph, on a CPU: it gives what the plain one does, and is compiled once for all batches."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch._dynamo.backends.common import aot_autograd
from torchrec import KeyedTensor

from foundrank.data.batch.batch import Batch
from foundrank.data.errors import UserError
from foundrank.data.schema.layout import Layout
from foundrank.model.foundation.foundation import Foundation
from foundrank.model.foundation.one_graph import OneGraph
from foundrank.model.layers import fast, on_gpu

from .test_forms import VARIANTS, near

CPU = torch.device("cpu")
BATCHES = [([5, 3, 4], 2), ([0, 7, 2], 5), ([14, 0, 0], 0), ([0, 0, 0], 14), ([1, 1, 1], 11)]
"""Rows per domain, and bags besides."""


@pytest.fixture
def graphs() -> Iterator[Any]:
    """How many graphs have been compiled; nothing is remembered of other tests."""
    torch._dynamo.reset()
    made = []

    def count(graph: torch.fx.GraphModule, inputs: Any) -> Any:
        made.append(graph)
        return graph.forward

    compiled: Any = aot_autograd(fw_compiler=count, bw_compiler=count)
    compiled.made = made
    yield compiled
    torch._dynamo.reset()


def steps(layout: Layout, config, make_batch, variant: dict[str, Any], precision: str, how: Any, device=CPU):
    """Loss, outputs and gradients of each batch; as one graph where it is said how to compile it."""
    torch.manual_seed(0)
    dense = Foundation(layout, config(**variant), 16, precision).dense.to(device)
    for parameter in dense.parameters():  # as after training: nothing equal across domains
        torch.nn.init.normal_(parameter, std=0.3)
    if how is not None:
        dense.in_training = OneGraph(dense, device, **how)
    keys = [*layout.keys][::-1]
    for lengths, padding in BATCHES:
        batch: Batch = make_batch(layout, lengths, padding=padding).to(device)
        values = torch.randn(batch.rows + padding, 8 * len(keys), device=device).requires_grad_()
        dense.zero_grad()
        loss, outputs = dense(KeyedTensor(keys, [8] * len(keys), values), batch)
        loss.backward()
        of_parameters = {name: p.grad.clone() for name, p in dense.named_parameters() if p.grad is not None}
        yield loss.detach().clone(), outputs, of_parameters | {"lookups": values.grad}


@pytest.mark.parametrize(
    ("variant", "precision"),
    [*((each, "fp32") for each in VARIANTS), *((each, "bf16") for each in VARIANTS[:2])],
    ids=str,
)
def test_it_gives_the_same_for_every_batch_and_is_compiled_once(
    variant, precision, layout, config, make_batch, monkeypatch, graphs
):
    monkeypatch.setattr(fast, "kind_of", lambda x: "cuda")
    arguments = layout, config, make_batch, variant, precision
    compiled = [*steps(*arguments, {"backend": graphs})]
    assert len(graphs.made) == 2  # forward and backward
    for (loss, outputs, gradients), (again, found, also) in zip([*steps(*arguments, None)], compiled, strict=True):
        torch.testing.assert_close(again, loss)
        for name in ("logits", "losses", "counts", "alignment", "gates"):
            torch.testing.assert_close(getattr(found, name), getattr(outputs, name), rtol=1e-4, atol=1e-5)
        for name, gradient in gradients.items():
            assert near(also[name], gradient, 1e-4 if precision == "fp32" else 2e-2), name


def test_so_many_domains_that_others_go_one_by_one(layout, config, make_batch, monkeypatch, graphs):
    monkeypatch.setattr(fast, "kind_of", lambda x: "cuda")
    monkeypatch.setattr(on_gpu, "_WIDE", 8)
    arguments = layout, config, make_batch, {"gate": "domain_gate"}, "fp32"
    compiled = [*steps(*arguments, {"backend": graphs})]
    assert len(graphs.made) == 2
    for (loss, _, gradients), (again, _, also) in zip([*steps(*arguments, None)], compiled, strict=True):
        torch.testing.assert_close(again, loss)
        assert all(near(also[name], gradient, 1e-4) for name, gradient in gradients.items())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_gpu_that_replays_it_gives_the_same(precision, layout, config, make_batch):
    arguments = layout, config, make_batch, {"gate": "domain_gate"}, precision
    plain, replayed = ([*steps(*arguments, how, torch.device("cuda"))] for how in (None, {"mode": "reduce-overhead"}))
    for (loss, _, gradients), (again, _, also) in zip(plain, replayed, strict=True):
        torch.testing.assert_close(again, loss, rtol=1e-3, atol=1e-3)
        assert all(near(also[name], gradient, 1e-2) for name, gradient in gradients.items())


def test_a_training_that_goes_on_draws_what_it_would_have_drawn(layout, config, make_batch, monkeypatch, graphs):
    monkeypatch.setattr(fast, "kind_of", lambda x: "cuda")
    batch = make_batch(layout, [5, 3, 4], padding=2)
    values = torch.randn(14, 8 * len(layout.keys))
    lookups = KeyedTensor([*layout.keys], [8] * len(layout.keys), values)

    def losses(seeds: list[int]) -> list[float]:
        torch.manual_seed(0)
        dense = Foundation(layout, config(id_dropout=0.5, unknown_id="learned"), 16).dense
        dense.in_training = OneGraph(dense, CPU, backend=graphs)
        found = []
        for seed in seeds:
            torch.manual_seed(seed)
            found.append(dense(lookups, batch)[0].item())
        return found

    first, second = losses([1, 2])
    assert first != second
    assert losses([2]) == [second]


def test_what_is_predicted_is_not_padded(layout, config, make_batch, monkeypatch, graphs):
    monkeypatch.setattr(fast, "kind_of", lambda x: "cuda")
    batch = make_batch(layout, [5, 3, 4], padding=2)
    dense = Foundation(layout, config(), 16).dense
    lookups = KeyedTensor([*layout.keys], [8] * len(layout.keys), torch.randn(14, 8 * len(layout.keys)))
    dense.in_training = OneGraph(dense, CPU, backend=graphs)
    dense.eval()
    with torch.no_grad():
        assert dense(lookups, batch)[1].logits.shape[0] == batch.rows
    assert not graphs.made


class Odd(torch.nn.Module):
    """Looks at what it computes, so there is no one graph of it."""

    def forward(self, *arguments: Any) -> Any:
        return arguments if float(arguments[0].sum()) > 0 else arguments[::-1]


def test_a_model_that_has_no_one_graph_is_told(layout, config, make_batch, monkeypatch, graphs):
    monkeypatch.setattr(fast, "kind_of", lambda x: "cuda")
    dense = Foundation(layout, config(), 16).dense
    dense.head = Odd()
    dense.in_training = OneGraph(dense, CPU, backend=graphs)
    lookups = KeyedTensor([*layout.keys], [8] * len(layout.keys), torch.randn(14, 8 * len(layout.keys)))
    monkeypatch.setattr(dense, "compute", lambda *arguments: Odd()(lookups.values()))
    with pytest.raises(UserError, match=r"training\.compile: the step cannot be made one graph here"):
        dense(lookups, make_batch(layout, [5, 3, 4], padding=2))
