"""Optimizers of the dense part, and schedules."""

import math
from typing import Any

import pytest
import torch

from foundrank.model.optimizers import OPTIMIZERS, SCHEDULES
from foundrank.model.optimizers.adam import Adam
from foundrank.model.optimizers.adamw import AdamW
from foundrank.model.optimizers.schedules import Constant, Cosine, Linear
from foundrank.model.optimizers.sgd import SGD

RATE = 0.1


def two_steps(settings: Any) -> list[float]:
    """A parameter that begins as 1, with gradients 2 and then 4."""
    parameter = torch.nn.Parameter(torch.ones(1))
    optimizer = settings.build([{"params": [parameter], "lr": RATE}])
    values = []
    for gradient in (2.0, 4.0):
        parameter.grad = torch.tensor([gradient])
        optimizer.step()
        values.append(parameter.item())
    assert settings.moments == sum(state.numel() for state in optimizer.state[parameter].values() if state.dim())
    return values


def adams(decay: float) -> list[float]:
    value, first, second, values = 1.0, 0.0, 0.0, []
    for step, gradient in enumerate((2.0, 4.0), 1):
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        value *= 1 - RATE * decay
        value -= RATE * first / (1 - 0.9**step) / (math.sqrt(second / (1 - 0.999**step)) + 1e-8)
        values.append(value)
    return values


@pytest.mark.parametrize(
    ("settings", "values"),
    [
        (AdamW(weight_decay=0.5), adams(0.5)),
        (Adam(), adams(0)),
        (SGD(), [1 - 0.2, 1 - 0.2 - 0.4]),
        (SGD(momentum=0.5), [1 - 0.2, 1 - 0.2 - 0.1 * (4 + 0.5 * 2)]),
    ],
    ids=str,
)
def test_steps_are_those_of_the_formula(settings, values):
    assert two_steps(settings) == pytest.approx(values, abs=1e-6)


@pytest.mark.parametrize(
    ("schedule", "shares"),
    [
        (
            Cosine(warmup_share=0.2, final_lr_share=0.1),
            {0.6: 0.55, 1.0: 0.1, 0.4: 0.1 + 0.9 * (0.5 + math.sqrt(0.125))},
        ),
        (Linear(warmup_share=0.2, final_lr_share=0.1), {0.6: 0.55, 1.0: 0.1, 0.4: 0.775}),
        (Constant(warmup_share=0.2), {0.4: 1.0, 1.0: 1.0}),
    ],
    ids=str,
)
def test_rates_rise_from_almost_nothing_and_then_follow_the_curve(schedule, shares):
    rising = {0.0: 1e-3, 0.1: 0.5, 0.2: 1.0}
    for progress, share in (rising | shares).items():
        assert schedule.share(progress) == pytest.approx(share)
    assert type(schedule)(warmup_share=0).share(0.0) == 1.0


def test_every_kind_is_here():
    assert set(OPTIMIZERS.values()) == {AdamW, Adam, SGD}
    assert set(SCHEDULES.values()) == {Cosine, Linear, Constant}
