"""A step of the standard workload's full model starts no more operators than half of what it once did."""

import json
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from torch import nn
from torchrec import KeyedTensor

from benchmarks.step_operators import Operators, as_on_a_gpu, table
from benchmarks.workload_experiment import FULL, experiment_of
from foundrank.data.config.load import load_experiment
from foundrank.data.schema.layout import make_layout
from foundrank.dist.capacity.footprint import _full_batch
from foundrank.dist.train.optimizer import Optimizer
from foundrank.model.foundation.foundation import Foundation
from foundrank.model.kinds import KINDS

ONCE = {"bf16": 719, "fp32": 976}
"""Operators from lookups to the step of the dense optimizer, in the form for GPUs, before it had own gradients."""


@pytest.fixture
def counted(tmp_path: Path):
    """The operators of a step of 64 rows in a precision, from the lookups on."""
    (tmp_path / "schema.json").write_text(json.dumps({"cards": [50] * 16, "n_domain": 7, "seq_vocab": 50}))
    (tmp_path / "full.yaml").write_text(yaml.safe_dump(experiment_of(tmp_path, 7, FULL)))
    experiment = load_experiment(tmp_path / "full.yaml", kinds=KINDS)
    layout = make_layout(experiment, {}, {})
    torch.manual_seed(0)
    batch = _full_batch(layout, experiment, 64)
    values = torch.randn(64, 16 * len(layout.keys)).requires_grad_()
    lookups = KeyedTensor(list(layout.keys), [16] * len(layout.keys), values)

    def run(precision: str, on_gpu: bool) -> Operators:
        model = nn.Module()
        model.dense = dense = Foundation(layout, experiment.model, 64, precision).dense
        model.fused_optimizer = SimpleNamespace(param_groups=[], step=lambda: None)
        optimizer = Optimizer(model, experiment.training)  # type: ignore[arg-type]
        operators = Operators(model)
        with as_on_a_gpu() if on_gpu else nullcontext():
            for watching in (nullcontext(), operators.watching(optimizer)):
                with watching:
                    optimizer.zero_grad()
                    dense(lookups, batch)[0].backward()
                    optimizer.step()
        return operators

    return run


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_at_most_half_of_what_it_once_was(precision, counted):
    operators = counted(precision, on_gpu=True)
    assert operators.calls.total() <= ONCE[precision] / 2, table(operators, 1)


def test_operators_are_told_apart(counted):
    operators = counted("fp32", on_gpu=False)
    parts = {part for _, part, _ in operators.calls}
    assert parts >= {"representation", "domain layer", "experts, towers", "losses", "alignment", "optimizer"}
    assert operators.names["optimizer", "optimizer", "_fused_adamw_"] > 0
    assert operators.calls["backward", "experts, towers", False] > operators.calls["backward", "alignment", False] > 0
    (every,) = (line for line in table(operators, 1).splitlines() if line.startswith("| all "))
    assert sum(operators.calls.values()) == int(every.split(" | ")[4].replace(",", ""))
