"""The whole model in its form for GPUs, on a CPU: what it gives, how many operators that takes, and that none waits for a GPU."""

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torchrec import KeyedTensor

from foundrank.data.batch.batch import Batch
from foundrank.data.schema.layout import Layout
from foundrank.model.foundation.foundation import Foundation
from foundrank.model.layers import fast
from foundrank.model.layers.domain_rows import DomainRows

VARIANTS: list[dict[str, Any]] = [
    {},
    {"gate": "domain_gate", "id_from_text": 0.1},
    {"aspects": ("id",)},
    {"aspects": ("text", "sparse")},
    {"aspects": ("id", "sparse"), "domain_width": 0},
    {"head": "ple"},
    {"head": "star"},
    {"head": "shared_bottom", "alignment": "mmd"},
    {"gate": "none"},
    {"gate": "none", "domain_width": 0, "alignment": "none", "shared_head": True, "tower_widths": (6, 3)},
]
WAITS = {"_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal", "unique2", "_unique2"}


class NoWaiting(TorchDispatchMode):
    """Refuses what needs to know a number that a GPU has."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        masked = name in ("index", "index_put", "index_put_") and any(
            isinstance(at, torch.Tensor) and at.dtype == torch.bool for at in args[1]
        )
        if name in WAITS or masked:
            raise AssertionError(f"{func} waits for the device")
        return func(*args, **(kwargs or {}))


class HiddenLengths(DomainRows):
    """Of which nobody may ask how many rows a domain has on the host."""

    def __iter__(self):
        raise AssertionError("rows per domain were asked for on the host")

    def __getitem__(self, at):
        raise AssertionError("rows per domain were asked for on the host")


@pytest.fixture
def step(layout: Layout, config, make_batch):
    """Loss, outputs and gradients of a variant of the model, its lookups included."""

    def run(
        variant: dict[str, Any],
        lengths: list[int],
        precision: str = "fp32",
        padding: int = 0,
        within: Any = nullcontext,
    ):
        batch: Batch = make_batch(layout, lengths, padding=padding)
        torch.manual_seed(0)
        dense = Foundation(layout, config(**variant), 16, precision).dense
        for parameter in dense.parameters():  # as after training: nothing equal across domains
            torch.nn.init.normal_(parameter, std=0.3)
        keys, rows = [*layout.keys][::-1], batch.rows + padding
        values = torch.randn(rows, 8 * len(keys)).requires_grad_()
        lookups = KeyedTensor(keys, [8] * len(keys), values)
        if within is not nullcontext:
            dense(lookups, batch)  # what it learns once, it may wait for
        with within():
            loss, outputs = dense(lookups, batch)
            loss.backward()
        gradients = {name: parameter.grad for name, parameter in dense.named_parameters()}
        return loss, outputs, gradients | {"lookups": values.grad}

    return run


def near(found: torch.Tensor, wanted: torch.Tensor, share: float) -> bool:
    return bool((found.float() - wanted.float()).norm() <= share * wanted.float().norm().clamp_min(1e-3))


@pytest.fixture
def both(step, monkeypatch):
    """A step in the plain form and in that for GPUs."""

    def run(*arguments):
        monkeypatch.setenv("FOUNDRANK_PLAIN", "all")
        plain = step(*arguments, padding=2)
        monkeypatch.delenv("FOUNDRANK_PLAIN")
        with monkeypatch.context() as patched:
            patched.setattr(fast, "kind_of", lambda x: "cuda")
            return plain, step(*arguments, padding=2)

    return run


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
@pytest.mark.parametrize("lengths", [[5, 3, 4], [0, 7, 2], [0, 3, 0], [0, 0, 0]], ids=str)
def test_on_gpus_it_gives_the_same(variant, lengths, both):
    (loss, outputs, gradients), (again, found, also) = both(variant, lengths)
    torch.testing.assert_close(again, loss)
    for name in ("logits", "losses", "counts", "alignment", "gates"):
        torch.testing.assert_close(getattr(found, name), getattr(outputs, name), rtol=1e-4, atol=1e-5)
    for name, gradient in gradients.items():
        assert near(also[name], gradient, 1e-4), name


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_in_bfloat16_it_is_as_near_as_the_plain_form(variant, step, both):
    lengths = [20, 15, 25]
    _, outputs, right = step(variant, lengths, padding=2)
    errors = []
    for _, found, gradients in both(variant, lengths, "bf16"):
        assert near(found.logits, outputs.logits, 0.05)
        off = sum((gradients[name] - of).square().sum() for name, of in right.items())
        errors.append(float(off / sum(of.square().sum() for of in right.values())) ** 0.5)
    assert errors[1] < 3 * errors[0] + 0.01  # a unit near 0 falls on either side
    assert errors[0] < 0.3


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("variant", VARIANTS[:8], ids=str)
def test_no_step_waits_for_a_gpu_or_knows_how_many_rows_a_domain_has(variant, precision, step, monkeypatch):
    monkeypatch.setattr(fast, "kind_of", lambda x: "cuda")
    monkeypatch.setattr("foundrank.model.foundation.foundation.DomainRows", HiddenLengths)
    step(variant, [5, 3, 4], precision, within=NoWaiting)
