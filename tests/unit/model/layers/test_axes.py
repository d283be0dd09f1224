"""Every parameter of every variant of the model declares its axes and its level."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
import torch
from torch import nn

from foundrank.data.config.sections.model import ModelConfig
from foundrank.data.schema.layout import Layout
from foundrank.model.alignments import ALIGNMENTS
from foundrank.model.foundation.foundation import Foundation
from foundrank.model.gates import GATES
from foundrank.model.heads import HEADS
from foundrank.model.history import HISTORIES
from foundrank.model.layers.axes import Axis, at_level, axes_of, declare, declare_layers, levels_of, linear, named

REASONING = {"steps": 2, "block": 3, "learning": "ensemble"}
PASTS: list[dict[str, Any]] = [{"encoder": encoder, "time_bias": True} for encoder in HISTORIES if encoder != "mean"]
PASTS += [{"encoder": encoder, "reasoning": REASONING} for encoder in ("sasrec", "hstu")]
VARIANTS: list[dict[str, Any]] = [
    *({"head": head, "domain_width": width} for head, width in product(HEADS, (0, 16))),
    *({"head": head, "shared_head": True} for head in HEADS),
    *({"gate": gate, "id_from_text": 0.1} for gate in GATES if gate != "none"),
    *({"gate": "none", "domain_width": width} for width in (0, 16)),
    *({"history": history} for history in PASTS),
    *({"alignment": alignment} for alignment in ALIGNMENTS),
]


@pytest.fixture
def made(layout: Layout, config: Callable[..., ModelConfig]) -> Callable[[dict[str, Any]], Foundation]:
    def make(changes: dict[str, Any]) -> Foundation:
        of_rows = replace(layout, past=6, past_domains=True) if "history" in changes else layout
        return Foundation(of_rows, config(**changes), 4)

    return make


@pytest.mark.parametrize("changes", VARIANTS)
def test_every_parameter_declares_its_axes_and_its_level(changes, made):
    model = made(changes)
    parameters = dict(model.named_parameters())
    assert set(axes_of(model)) == set(levels_of(model)) == set(parameters)


def test_what_is_declared(made, layout: Layout):
    axes, levels = axes_of(model := made({})), levels_of(model)
    domains, tasks = named("domain", layout.domains), named("task", layout.tasks, ["Binary/logit"] * 2)
    assert axes["dense.head.towers.hidden_weights.0"] == (domains, tasks, "out", "in")
    assert axes["dense.adaptive.own"] == (domains, "out", model.dense.inputs)
    names = model.dense.inputs.names
    assert names is not None
    assert names[0] == "user.0"
    assert "item x query.3" in names
    assert axes["dense.represent.encoder.gates.query.bias"] == (named("aspect", ("id", "text")),)
    assert axes["embeddings.embedding_bags.id_item.weight"] == ("id", "width")
    wanted = {
        "embeddings.embedding_bags.id_item.weight": "L0",
        "dense.represent.encoder.text_projections.item.0.weight": "L0",
        "dense.represent.encoder.id_projections.item.0.weight": "L1",
        "dense.represent.encoder.gates.item.bias": "L1",
        "dense.domain_embedding": "L2",
        "dense.adaptive.shared": "L2",
        "dense.head.gates.weight": "L2",
        "dense.head.towers.bias": "L3",
    }
    assert {name: levels[name] for name in wanted} == wanted


def test_declarations_outlive_copies_and_memory_given_later(made):
    model = made({})
    copy = deepcopy(model)
    with torch.device("meta"):
        on_meta = made({}).dense
    assert axes_of(copy) == axes_of(model)
    assert axes_of(on_meta.to_empty(device="cpu")) == axes_of(model.dense)
    assert levels_of(copy) == levels_of(model)


def test_a_parameter_without_declaration_is_told():
    with pytest.raises(TypeError, match=r"1\.weight of Linear has no declared axes"):
        axes_of(nn.Sequential(linear(2, 3), nn.Linear(3, 4)))
    with pytest.raises(TypeError, match=r"0\.weight is at no level"):
        levels_of(nn.Sequential(linear(2, 3), at_level("L3", linear(3, 4))))


@pytest.mark.parametrize("axes", [("out",), ("out", "in", "more"), ("out", Axis("in", 3))])
def test_a_declaration_that_does_not_fit_is_told(axes):
    with pytest.raises(TypeError, match=r"weight is \[3, 2\], but its declared axes are"):
        axes_of(declare(nn.Linear(2, 3, bias=False), {"weight": axes}))


def test_the_first_of_some_layers_sees_the_inputs():
    layers, inputs = nn.ParameterList([torch.zeros(3, 2), torch.zeros(4, 3)]), named("in", "ab")
    assert axes_of(declare_layers(layers, "out", "in", inputs=inputs)) == {"0": ("out", inputs), "1": ("out", "in")}
