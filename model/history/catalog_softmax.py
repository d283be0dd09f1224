"""Cross entropy against a whole catalog, block after block: scores of all items are never held for all states at once."""

from typing import Any

import torch
from torch import Tensor

_CELLS = {"cpu": 1 << 20}  # scores held at a time: what fits a core's cache
_CELLS_ELSEWHERE = 1 << 26


class _CrossEntropy(torch.autograd.Function):
    """The weighted sum of cross entropies, whose gradients are computed on the way forward, as each block's scores are there."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, items: Tensor, place: Tensor, weights: Tensor, cells: int) -> Tensor:
        rows = max(1, cells // max(len(items), 1))
        low = items.to(states.dtype)
        loss = weights.new_zeros(())
        of_states, of_items = torch.empty_like(states), torch.zeros_like(items)
        for start in range(0, len(states), rows):
            part = slice(start, start + rows)
            mine, own_place, weight = states[part], place[part, None], weights[part, None]
            scores = (mine @ low.T).float()
            own, most = scores.gather(1, own_place), scores.amax(1, keepdim=True)
            total = scores.sub_(most).exp_().sum(1, keepdim=True)
            loss += ((total.log() + most - own) * weight).sum()
            # From here on scores are the gradient with respect to them.
            gradient = scores.mul_(weight / total).scatter_add_(1, own_place, -weight).to(states.dtype)
            torch.mm(gradient, low, out=of_states[part])
            if low.dtype == items.dtype:
                of_items.addmm_(gradient.T, mine)
            else:  # a sum of many blocks needs more digits than each of them
                of_items += gradient.T @ mine
        ctx.save_for_backward(of_states, of_items)
        return loss

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None, None]:  # type: ignore[override]
        of_states, of_items = ctx.saved_tensors
        return of_states * gradient, of_items * gradient, None, None, None


def cross_entropy_among_all(
    states: Tensor, items: Tensor, place: Tensor, weights: Tensor, smoothing: float = 0.0, cells: int | None = None
) -> Tensor:
    """Softmax cross entropy of each state's item among all items, summed with weights; a float32 scalar.

    Args:
        states: ``[S, D]`` float32 or bfloat16.
        items: ``[M, D]`` float32; products are of the states' type, the items' gradient is a float32 sum of them.
        place: ``[S]`` int64, which item each state is to find.
        weights: ``[S]`` float32, not differentiated.
        smoothing: share of each target that is spread evenly over all items.
        cells: scores held at a time, where it matters.
    """
    with torch.autocast(states.device.type, enabled=False):
        cells = cells or _CELLS.get(states.device.type, _CELLS_ELSEWHERE)
        total: Tensor = _CrossEntropy.apply(states, items, place, weights, cells)  # type: ignore[assignment]
        if smoothing:  # a mean of scores is the score of the mean item
            towards_all = items.index_select(0, place) - items.mean(0)
            total = total + smoothing * ((states.float() * towards_all).sum(1) * weights).sum()
        return total
