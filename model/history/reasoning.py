"""Latent reasoning: further passes over the newest states before they are looked up with (ReaRec, Tang et al., 2025; OnePiece, Dai et al., 2025)."""

from collections.abc import Callable, Iterable
from itertools import combinations
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from ...data.settings_base import Name, Positive, Strict
from ..layers.axes import declare, named
from .sequence import Sequence

_SHARPER = 1.5  # by how much scores count more from step to step of the progressive kind
NOISE, _TEMPERATURE, _CONTRAST = 0.02, 0.1, 0.1  # of its contrast between states with and without noise
_REWARD = 0.05  # weight of the divergence between steps of the ensemble kind


class ReasoningConfig(Strict):
    """Latent reasoning: further passes over the newest states."""

    steps: Positive = Field(default=2, description="passes")
    block: Positive = Field(
        default=1, description="the newest states that each pass takes up and gives, not the last alone (OnePiece)"
    )
    tasks: tuple[Name, ...] = Field(
        default=(),
        description="one per step: rows whose label of it is not positive do not teach that step to find their item; from the commonest to the rarest, as clicks and purchases (OnePiece)",
    )
    learning: Literal["ensemble", "progressive"] = Field(
        default="ensemble",
        description="ensemble: all steps count alike, their mean is used; progressive: later steps count more, the last is used",
    )

    @model_validator(mode="after")
    def _one_task_a_step(self):
        if self.tasks and len(self.tasks) != self.steps:
            raise ValueError(f"{len(self.tasks)} tasks for {self.steps} steps: each step has one")
        return self


Reasons = Annotated[
    ReasoningConfig | None, Field(description="latent steps after the newest item (ReaRec); absent: none")
]
"""A setting of causal encoders of sequences: ``reasoning``."""


class Reasoning(nn.Module):
    """Each step appends the newest states, with an embedding of the step, to what the encoder sees, and reads the newest again.

    In a block of several each has an embedding of its place, too; the last one is what is looked up with.

    ``ensemble``: every step learns to find the next item, the steps are kept apart by a reward for the divergence of what they would
    recommend, and the mean of all is used. ``progressive``: every step learns, with scores that count more from step to step; states
    are to stay themselves under noise, among those of other rows; and the last one is used.

    Args:
        width: D.
        config: the experiment's.
    """

    def __init__(self, width: int, config: ReasoningConfig):
        super().__init__()
        self.config = config
        self.steps = nn.Parameter(torch.randn(config.steps, width) * 0.1)
        declare(self, {"steps": ("step", "width")})
        self.places: nn.Parameter | None = None
        if config.block > 1:
            # Counted from the newest, as positions are.
            self.places = nn.Parameter(torch.randn(config.block, width) * 0.1)
            declare(self, {"places": (named("position", map(str, range(config.block))), "width")})

    def think(
        self, sequence: Sequence, states: Tensor, through: Callable[[Sequence], Tensor], noise: float = 0.0
    ) -> Tensor:
        """``[K + 1, B, D]``: the newest state before any step and after each; zeros for a row without past items.

        Args:
            sequence: what the encoder's blocks take in, N items.
            states: ``[N, D]`` what they make of it.
            through: the blocks. All of the sequence is passed through again in each step.
            noise: deviation of what is added to the states that are appended.
        """
        there, many = (sequence.lengths > 0)[:, None, None], self.config.block
        block = sequence.last_of(states, many)
        found = [block[:, -1]]
        for step in self.steps:
            taken = block + noise * torch.randn_like(block) + step
            sequence = sequence.with_more(taken if self.places is None else taken + self.places.flip(0))
            block = sequence.last_of(through(sequence), many) * there
            found.append(block[:, -1])
        return torch.stack(found)

    def one(self, states: Tensor) -> Tensor:
        """``[K + 1, B, D]`` -> ``[B, D]``: what is looked up with."""
        return states.mean(0) if self.config.learning == "ensemble" else states[-1]

    def scaled(self, states: Tensor) -> Tensor:
        """``[K + 1, B, D]``: as the steps learn."""
        if self.config.learning == "ensemble":
            return states
        left = torch.arange(len(states) - 1, -1, -1, device=states.device)
        return states * (_SHARPER**-left)[:, None, None]

    def beside(self, states: Tensor, noised: Tensor, pools: Iterable[tuple[Tensor, Tensor]], weights: Tensor) -> Tensor:
        """What is learned beside finding the next item, summed over rows; a scalar.

        Args:
            states: ``[K + 1, B, D]``, times the scale of scores.
            noised: the same, thought of with noise; the progressive kind looks at it.
            pools: candidates ``[M, D]`` and ``[B]`` 0 or 1, of the rows that seek among them; the ensemble kind looks at these.
            weights: ``[B]`` 0 or 1, of the rows, whatever they seek among.
        """
        if self.config.learning == "ensemble":
            return _REWARD * sum((agreement(states, *pool) for pool in pools), states[:, :0].sum().float())
        return _CONTRAST * contrast(states[-1], noised[-1], weights)


def agreement(states: Tensor, candidates: Tensor, weights: Tensor) -> Tensor:
    """Minus the mean Kullback-Leibler divergence between two steps' distributions over candidates, summed over rows; a scalar."""
    logs = (states @ candidates.to(states.dtype).T).float().log_softmax(-1)
    pairs = combinations(range(len(logs)), 2)
    divergences = [F.kl_div(logs[b], logs[a], reduction="none", log_target=True).sum(1) for a, b in pairs]
    return -(torch.stack(divergences).mean(0) * weights).sum()


def contrast(states: Tensor, noised: Tensor, weights: Tensor) -> Tensor:
    """Cross entropy of each row's noised state ``[B, D]`` finding its own without noise among all rows', summed; a scalar."""
    mine, theirs = (F.normalize(of.float(), dim=1) for of in (noised, states))
    places = torch.arange(len(mine), device=mine.device)
    others = (weights == 0) & (places[:, None] != places)
    scores = (mine @ theirs.T / _TEMPERATURE).masked_fill(others, float("-inf"))
    return ((scores.logsumexp(1) - scores.diagonal()) * weights).sum()
