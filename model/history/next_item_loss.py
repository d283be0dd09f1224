"""The next-item objective: the state after some past items shall be closest to the item that comes next."""

from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...data.batch.batch import Batch
from ...data.batch.past_items import Past
from ...data.config.sections.next_item import NextItemConfig
from ..layers.forms import as_autocast
from .catalog_softmax import cross_entropy_among_all
from .sequence import Sequence, ToFind

_LOWEST = -1e9


class Finds(Protocol):
    """An encoder of sequences that can learn to find what comes next."""

    def to_find(self, sequence: Sequence, every: bool) -> ToFind:
        """States and what each is to find: at ``every`` position, or one per row its own item."""
        ...


class NextItem(nn.Module):
    """Losses over the candidates of a batch.

    Args:
        config: the experiment's ``model.next_item``.
        batch_size: nominal rows per rank and step; the loss is a sum divided by it.
        width: D; scores are products of states and items, divided by its root.
        item_rows: of the item table.
    """

    def __init__(self, config: NextItemConfig, batch_size: int, width: int, item_rows: int):
        super().__init__()
        self.config, self.batch_size, self.item_rows = config, batch_size, item_rows
        self.scale = width**-0.5

    def forward(
        self, history: "Finds", sequence: Sequence, items: Tensor, candidates: Tensor, batch: Batch
    ) -> tuple[Tensor, Tensor]:
        """The loss.

        Args:
            history: the encoder.
            sequence: N past items of B rows.
            items: ``[N + B, D]``, what there is to find: past items, and behind them the rows' own.
            candidates: ``[M, D]``.
            batch: B rows with ``past``.

        Returns:
            The weighted loss, a float32 scalar; and, detached, the sum of the losses and how many they are, ``[2]`` float32.
        """
        past = batch.past
        assert past is not None
        to_find = history.to_find(sequence, self.config.positions == "all")
        states, target = to_find.states, to_find.target
        rows = torch.cat([past.rows, past.item_rows])
        # Past items were chosen by having become past; and what has no vector cannot be found.
        usable = torch.cat([torch.ones_like(past.rows, dtype=torch.bool), past.chosen]) & (items.detach() != 0).any(1)
        found = target.clamp_min(0)
        weights = (usable[found] & (target >= 0)).float()
        if self.config.loss == "softmax":
            weights = weights * (rows[found] > 0)  # an item that has no row is no candidate, others are there once each
            places = self._places(past.candidates, rows[found])
            smoothing = self.config.label_smoothing
            (narrow,) = as_autocast(states * self.scale)  # an encoder's last norm has made them float32
            total = cross_entropy_among_all(narrow, candidates, places, weights, smoothing)
        else:
            negatives = Negatives(candidates, past.candidates)
            if self.config.in_batch:
                counts = torch.cat([past.counts, batch.id_counts[:, -1].clamp_min(0)])
                negatives = self._with_in_batch(negatives, items[found], rows[found], counts[found], weights, past)
            total = (self._losses(states, items[found], rows[found], negatives, past.trained_items) * weights).sum()
        told = torch.stack([total, weights.sum()]).detach()
        if to_find.beside is not None:
            counts_row = usable[len(past.rows) :] & (past.lengths > 0)
            total = total + to_find.beside(candidates, counts_row.float(), self.scale)
        return self.config.weight * total / self.batch_size, told

    def _with_in_batch(
        self, drawn: "Negatives", items: Tensor, rows: Tensor, counts: Tensor, weights: Tensor, past: Past
    ) -> "Negatives":
        """Also what other states are to find. Popular items are among these more often, and get less weight for that (logQ).

        An item is expected e = M / C + K count / all counts times among M drawn of C items and K in the batch; it weighs 1 / e,
        relative to an item of mean count.
        """
        some = torch.randperm(len(items), device=items.device)[: self.config.in_batch]
        some = some[weights[some] > 0] if items.device.type == "cpu" else some
        size = len(drawn.rows) + len(some)
        of_drawn, of_batch = len(drawn.rows) / past.trained_items, len(some) / max(past.trained_events, 1)

        def weigh(seen: Tensor) -> Tensor:
            return (size / past.trained_items) / (of_drawn + of_batch * seen).clamp_min(1e-9)

        return Negatives(
            torch.cat([drawn.items, items[some]]),
            torch.cat([drawn.rows, torch.where(weights[some] > 0, rows[some], -1)]),
            torch.cat([weigh(past.candidate_counts), weigh(counts[some]) * weights[some]]),
        )

    def _losses(self, states: Tensor, items: Tensor, rows: Tensor, negatives: "Negatives", trained: int) -> Tensor:
        """``[S]`` float32."""
        states = states * self.scale
        scores = (states @ negatives.items.to(states.dtype).T).float()
        positive = (states.float() * items).sum(1)
        # A negative that is what shall be found is none.
        scores = scores.masked_fill((negatives.rows == rows[:, None]) & (rows > 0)[:, None], _LOWEST)
        if self.config.loss == "gbce":
            rate = len(negatives.rows) / max(trained - 1, 1)
            beta = rate * (self.config.calibration * (1 - 1 / rate) + 1 / rate) if rate else 1.0
            return beta * F.softplus(-positive) + F.softplus(scores).sum(1)
        if negatives.weights is not None:
            scores = scores + negatives.weights.log()
        return torch.logaddexp(positive, scores.logsumexp(1)) - positive

    def _places(self, candidates: Tensor, rows: Tensor) -> Tensor:
        """``[S]``: where each row of the item table is among the candidates; 0 for one that is not."""
        places = torch.zeros(self.item_rows, dtype=torch.int64, device=rows.device)
        places[candidates] = torch.arange(len(candidates), device=rows.device)
        return places[rows]


@dataclass
class Negatives:
    """M items that states shall not be close to.

    Attributes:
        items: ``[M, D]``.
        rows: ``[M]`` int64 rows of the item table.
        weights: ``[M]`` float32, of each in the softmax; None: all the same.
    """

    items: Tensor
    rows: Tensor
    weights: Tensor | None = None
