"""What the softmax over a whole catalog costs in float32 and in bfloat16, forward and backward.

    python -m benchmarks.catalog_softmax

States and items are as many as a step on Amazon Beauty has. Rounds of the two alternate; told is the CPU time of the quickest and of
the median one, on one thread, as other work on the machine slows both.
"""

import statistics
import time
from typing import Annotated

import torch
import typer

from foundrank.model.history.catalog_softmax import cross_entropy_among_all


def catalog_softmax(
    states: Annotated[int, typer.Option(min=1)] = 1750,
    items: Annotated[int, typer.Option(min=1)] = 12_101,
    width: Annotated[int, typer.Option(min=1)] = 128,
    rounds: Annotated[int, typer.Option(min=1)] = 15,
) -> None:
    """Measures and prints."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    shown, catalog = torch.randn(states, width) * width**-0.5, torch.randn(items, width).requires_grad_()
    place, weights = torch.randint(0, items, (states,)), torch.ones(states)
    took: dict[torch.dtype, list[float]] = {torch.float32: [], torch.bfloat16: []}
    for _ in range(rounds):
        for kind, of_kind in took.items():
            found = shown.to(kind).requires_grad_()
            started = time.process_time()
            cross_entropy_among_all(found, catalog, place, weights, smoothing=0.1).backward()
            of_kind.append(time.process_time() - started)
    for kind, of_kind in took.items():
        print(f"{kind}: {1000 * min(of_kind):.0f} ms, median {1000 * statistics.median(of_kind):.0f}")


if __name__ == "__main__":
    typer.run(catalog_softmax)
