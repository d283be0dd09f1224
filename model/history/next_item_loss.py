"""The next-item objective: the state after some past items shall be closest to the item that comes next."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
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
_ALL = slice(None)


def pools_of(past: Past, batch: Batch, found: Tensor) -> "Pools":
    """The pools of a batch.

    Args:
        past: of the batch.
        batch: B rows.
        found: ``[S]`` int64, what each state is to find: positions among N past items, and the B rows' own behind them.
    """
    if past.of_domain is None:
        mean = past.trained_events / max(past.trained_items, 1)
        return Pools([Pool(_ALL, _ALL, past.trained_items, mean)])
    size = len(past.rows) + batch.rows
    of_target, of_candidate = past.of_domain[:size][found], past.of_domain[size:]
    of_items = batch.domains.repeat_interleave(past.lengths, output_size=len(past.rows))
    domain = torch.cat([of_items, batch.domains])[found]
    pools, fit = [], of_target.gather(1, domain[:, None])[:, 0]
    for d, (items, mean) in enumerate(past.domain_items):
        candidates = of_candidate[:, d].nonzero()[:, 0]
        if len(candidates):
            states = (domain == d).nonzero()[:, 0]
            pools.append(Pool(states, candidates, items, mean, of_target[:, d], batch.domains == d))
        else:  # it may have no item with a row of its own
            fit = fit & (domain != d)
    return Pools(pools, fit)


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
        of_steps: which of the batch's tasks each step of reasoning has; none: steps learn from all rows.
    """

    def __init__(
        self, config: NextItemConfig, batch_size: int, width: int, item_rows: int, of_steps: tuple[int, ...] = ()
    ):
        super().__init__()
        self.of_steps = of_steps
        self.config, self.batch_size, self.item_rows = config, batch_size, item_rows
        self.scale, self.narrower = width**-0.5, config.widths[:-1]

    def of_user(self, states: Tensor, embeddings: Tensor | None = None) -> Tensor:
        """``[B, U]``: what a ranking needs to know, of states ``[B, D]``."""
        return states

    def group_scores(
        self, states: Tensor, candidates: Tensor, batch: Batch, embeddings: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """``[B, G]`` float32 log-probabilities of the candidates of B rows, up to a constant of each row, and bool, which the batch can score.

        Args:
            states: ``[B, D]``.
            candidates: ``[M, D]``, all items seen in training.
            batch: B rows with ``past`` and ``groups``.
            embeddings: of codes, where codes are found.
        """
        past, groups = batch.past, batch.groups
        assert past is not None
        assert groups is not None
        items = candidates[self._places(past.candidates, groups.rows)]
        return (states[:, None].float() * items).sum(2) * self.scale, groups.rows > 0

    def forward(
        self,
        history: "Finds",
        sequence: Sequence,
        found_among: Callable[[], Tensor],
        candidates: Tensor,
        batch: Batch,
        embeddings: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The loss.

        Args:
            history: the encoder.
            sequence: N past items of B rows, and what stands before them.
            found_among: gives ``[N + B, D]``, what there is to find: past items, and behind them the rows' own.
            candidates: ``[M, D]``.
            batch: B rows with ``past``.
            embeddings: of codes, where codes are found.

        Returns:
            The weighted loss, a float32 scalar; and, detached, the sum of the losses and how many they are, ``[2]`` float32.
        """
        past, items = batch.past, found_among()
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
        if self.of_steps and to_find.steps:
            plain = len(weights) - to_find.steps * batch.rows
            weights = torch.cat([weights[:plain], weights[plain:] * self._taught(batch)])
        pools = pools_of(past, batch, found)
        weights = weights if pools.fit is None else weights * pools.fit
        counts = torch.cat([past.counts, batch.id_counts[:, -1].clamp_min(0)])
        to_learn = ToLearn(states, found, rows[found], counts[found], weights)
        some = torch.zeros(0, dtype=torch.int64, device=items.device)
        if self.config.in_batch and self.config.loss != "softmax":
            some = torch.randperm(len(found), device=items.device)[: self.config.in_batch]
            some = some[weights[some] > 0] if items.device.type == "cpu" else some
        total = beside = states[:0].sum().float()
        for pool in pools.pools:
            total = total + self._loss_in(pool, to_learn, some, items, candidates, past)
        if to_find.beside is not None:
            counts = (usable[len(past.rows) :] & (sequence.lengths > 0)).float()
            of_pools = (
                (candidates[pool.candidates], counts if pool.of_row is None else counts * pool.of_row)
                for pool in pools.pools
            )
            beside = to_find.beside(of_pools, counts, self.scale)
        told = torch.stack([total, weights.sum()]).detach()
        return self.config.weight * (total + beside) / self.batch_size, told

    def _taught(self, batch: Batch) -> Tensor:
        """``[K B]`` 0 or 1: which rows teach each of K steps of reasoning; those without the step's label do."""
        tasks = list(self.of_steps)
        return (~batch.label_mask[:, tasks] | (batch.labels[:, tasks] > 0)).T.flatten().float()

    def _loss_in(
        self, pool: "Pool", to_learn: "ToLearn", some: Tensor, items: Tensor, candidates: Tensor, past: Past
    ) -> Tensor:
        """The sum of the losses of a pool's states, each of which finds its item among the pool's; a scalar.

        With narrower widths it is the mean over all of them (Kusupati et al., "Matryoshka Representation Learning", 2022), where leading numbers of states are
        made as large as an encoder's last norm makes all of them; how large a state is orders no items.

        Args:
            pool: of states and candidates.
            to_learn: of all S states.
            some: which of them have targets that are negatives, too.
            items: ``[N + B, D]``, what there is to find.
            candidates: ``[M, D]``.
            past: of the batch.
        """
        total = self._loss_at(pool, to_learn, some, items, candidates, past)
        for width in self.narrower:
            states = F.normalize(to_learn.states[:, :width].float(), dim=1) / self.scale
            narrow = replace(to_learn, states=states)
            total = total + self._loss_at(pool, narrow, some, items[:, :width], candidates[:, :width], past)
        return total / (1 + len(self.narrower)) if self.narrower else total

    def _loss_at(
        self, pool: "Pool", to_learn: "ToLearn", some: Tensor, items: Tensor, candidates: Tensor, past: Past
    ) -> Tensor:
        """As `_loss_in`, at one width."""
        mine, rows = to_learn.of(pool.states), past.candidates[pool.candidates]
        candidates = candidates[pool.candidates]
        if self.config.loss == "softmax":
            (narrow,) = as_autocast(mine.states * self.scale)  # an encoder's last norm has made them float32
            places, smoothing = self._places(rows, mine.rows), self.config.label_smoothing
            return cross_entropy_among_all(narrow, candidates, places, mine.weights, smoothing)
        negatives = Negatives(candidates, rows)
        if self.config.in_batch:
            others = to_learn.of(some if pool.targets is None else some[pool.targets[some]])
            of_batch = (to_learn.weights[some] > 0).sum() / max(past.trained_events, 1)
            seen = past.candidate_counts[pool.candidates]
            negatives = self._with_in_batch(negatives, seen, others, items[others.found], pool, of_batch)
        losses = self._losses(mine.states, items[mine.found], mine.rows, negatives, pool.items)
        return (losses * mine.weights).sum()

    def _with_in_batch(
        self, drawn: "Negatives", seen: Tensor, others: "ToLearn", items: Tensor, pool: "Pool", of_batch: Tensor
    ) -> "Negatives":
        """Also what other states are to find. Popular items are among these more often, and get less weight for that (logQ).

        An item is expected e = M / C + K count / all counts times among M drawn of C items and K in the batch; it weighs 1 / e,
        relative to an item of mean count; ``of_batch`` is K / all counts. Those of another pool are not there, and count in K.
        """
        of_drawn = len(drawn.rows) / max(pool.items, 1)
        mean = of_drawn + of_batch * pool.mean_count

        def weigh(seen: Tensor) -> Tensor:
            return mean / (of_drawn + of_batch * seen).clamp_min(1e-9)

        return Negatives(
            torch.cat([drawn.items, items]),
            torch.cat([drawn.rows, torch.where(others.weights > 0, others.rows, -1)]),
            torch.cat([weigh(seen), weigh(others.counts) * others.weights]),
        )

    def _losses(self, states: Tensor, items: Tensor, rows: Tensor, negatives: "Negatives", trained: int) -> Tensor:
        """``[S]`` float32."""
        states = states * self.scale
        scores = (states @ negatives.items.to(states.dtype).T).float()
        positive = (states.float() * items).sum(1)
        # A negative that is what shall be found is none.
        scores = scores.masked_fill((negatives.rows == rows[:, None]) & (rows > 0)[:, None], _LOWEST)
        weights = negatives.weights if negatives.weights is not None else scores.new_ones(scores.shape[1])
        if self.config.loss == "gbce":
            rate = (weights > 0).sum() / max(trained - 1, 1)
            beta = 1 - self.config.calibration * (1 - rate)
            return beta * F.softplus(-positive) + F.softplus(scores.masked_fill(weights == 0, _LOWEST)).sum(1)
        if negatives.weights is not None:
            scores = scores + weights.log()
        return torch.logaddexp(positive, scores.logsumexp(1)) - positive

    def _places(self, candidates: Tensor, rows: Tensor) -> Tensor:
        """``[S]``: where each row of the item table is among the candidates; 0 for one that is not."""
        places = torch.zeros(self.item_rows, dtype=torch.int64, device=rows.device)
        places[candidates] = torch.arange(len(candidates), device=rows.device)
        return places[rows]


@dataclass(frozen=True)
class ToLearn:
    """S states and the item that each is to find.

    Attributes:
        states: ``[S, D]``.
        found: ``[S]`` int64, which of the N + B items that is.
        rows: ``[S]`` int64 its row of the item table.
        counts: ``[S]`` float32, how often it was seen in training.
        weights: ``[S]`` float32, 0 of those that find nothing.
    """

    states: Tensor
    found: Tensor
    rows: Tensor
    counts: Tensor
    weights: Tensor

    def of(self, some: Tensor | slice) -> "ToLearn":
        """Some of them."""
        return ToLearn(*(getattr(self, field.name)[some] for field in fields(self)))


@dataclass
class Negatives:
    """M items that states shall not be close to.

    Attributes:
        items: ``[M, D]``.
        rows: ``[M]`` int64 rows of the item table.
        weights: ``[M]`` float32, of each in the softmax, 0 of what is none; None: all the same.
    """

    items: Tensor
    rows: Tensor
    weights: Tensor | None = None


@dataclass(frozen=True)
class Pool:
    """States that seek their items among the same candidates.

    Attributes:
        states: which of the S states.
        candidates: which of the M candidates.
        items: how many items seen in training may be candidates.
        mean_count: how often these were seen there on average.
        targets: ``[S]`` bool, the item of which states is among those of the pool; None: of all.
        of_row: ``[B]`` bool, which rows the states are of; None: all.
    """

    states: Tensor | slice
    candidates: Tensor | slice
    items: int
    mean_count: float
    targets: Tensor | None = None
    of_row: Tensor | None = None


@dataclass(frozen=True)
class Pools:
    """All pools of a batch; each state is in one, unless its domain has no candidates.

    Attributes:
        pools: of which those without candidates are left out.
        fit: ``[S]`` bool, whether a state can find its item in its pool; None: all can.
    """

    pools: list[Pool]
    fit: Tensor | None = None
