"""Beam search over codes beside exact retrieval, into docs/results/performance.md.

    python -m benchmarks.beams --run RUN

What a beam returns and what the exact reference, the scores of all items given their codes, returns for the same users of a run that
finds the next item code after code; and what both cost beside products with vectors of all items, for catalogs of several sizes whose
codes are drawn at random.
"""

import json
import statistics
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

from foundrank.dist.evaluate.predictions import predictions
from foundrank.dist.evaluate.prepare import prepare_evaluation
from foundrank.dist.ranks.runtime import alone
from foundrank.dist.retrieval.by_codes import Beams, BeamSearch
from foundrank.dist.retrieval.products import Products, best_of
from foundrank.dist.retrieval.retrieval import Retriever
from foundrank.dist.retrieval.search import Exact
from foundrank.dist.score.score import model_of
from foundrank.dist.study.markdown_sections import write_section
from foundrank.model.codes.autoregressive import Autoregressive

from .jobs import Out, Repeats, in_turns
from .machine import calibration

ITEMS = {"12 thousand": 12_000, "1 million": 1_000_000, "10 million": 10_000_000}
SIZES, WIDTH, FIRST = (256, 256, 256, 256), 128, 10
_USERS = 64
_AT_ONCE = 1 << 13  # items that are scored exactly at a time


def beams(
    run: Annotated[Path, typer.Option(help="run whose decoder is autoregressive")],
    users: Annotated[int, typer.Option(min=1, help="users of the test split that are compared")] = 1000,
    repeats: Repeats = 3,
    out: Out = Path("docs/results/performance.md"),
) -> None:
    """Measures and writes the section."""
    torch.set_num_threads(1)
    agreed = agreement(run, users)
    print(json.dumps(agreed), flush=True)
    write_section(out, "beams", section(agreed, costs(repeats), calibration()))


@torch.no_grad()
def agreement(run: Path, users: int) -> dict[str, Any]:
    """Of how many users the beam's first items are the reference's."""
    with alone() as runtime:
        encoder, model, _ = model_of(run, runtime)
        retriever = Retriever(model, encoder, runtime)
        ranking = retriever.ranking
        assert isinstance(ranking, Beams)
        states = []
        for outputs, _ in predictions(model, encoder, prepare_evaluation(run, "test", writes=False).files, runtime):
            states.append(outputs.user.float())
            if sum(map(len, states)) >= users:
                break
        some = torch.cat(states)[:users]
    nobody = torch.zeros(2, 0, dtype=torch.int64)
    _, found = ranking.search(retriever.unknown).best(some, FIRST, (nobody[0], nobody[1]))
    same = []
    codes = ranking.codes.long()
    for state, of_beam in zip(some, found, strict=True):
        parts = [ranking.decoder.scores(state.expand(len(block), -1), block) for block in codes.split(_AT_ONCE)]
        exact = torch.cat(parts).masked_fill(retriever.unknown, float("-inf"))
        _, best = best_of(exact[None], FIRST)
        # By their codes: of items that have the same either may come first.
        same.append(bool((codes[best[0]] == codes[of_beam]).all()))
    return {"users": len(same), "same": sum(same), "beam": ranking.decoder.beam, "items": len(codes)}


def costs(repeats: int) -> dict[str, dict[str, list[float]]]:
    """Size of the catalog -> way of finding the first items -> milliseconds per user, round by round."""
    found = {}
    states = torch.randn(_USERS, WIDTH)
    for name, items in ITEMS.items():
        drawn = np.random.default_rng(0).integers(0, SIZES[0], (items, len(SIZES)), dtype=np.int16)
        drawn[:, -1] = 0
        nothing = torch.zeros(items, dtype=torch.bool)
        decoder = Autoregressive().build(SIZES, WIDTH).eval()
        search = BeamSearch(decoder, torch.from_numpy(drawn), nothing)
        exact = Exact(Products(torch.randn(items, WIDTH), nothing))
        found[name] = in_turns(
            {"beam": lambda search=search: _ms(search, states), "vectors": lambda exact=exact: _ms(exact, states)},
            repeats,
        )
    return found


def _ms(search: Any, states: torch.Tensor) -> float:
    nobody = torch.zeros(2, 0, dtype=torch.int64)
    search.best(states, FIRST, (nobody[0], nobody[1]))  # as it goes on: memory of the one before has been given back
    began = time.perf_counter()
    search.best(states, FIRST, (nobody[0], nobody[1]))
    return (time.perf_counter() - began) / len(states) * 1e3


def section(agreed: dict[str, Any], found: dict[str, dict[str, list[float]]], machine: str) -> str:
    """Markdown of the figures."""
    lines = [
        "## Beams over codes\n",
        "    python -m benchmarks.beams --run RUN\n",
        f"A beam of {agreed['beam']} returned the first {FIRST} of the exact reference for {agreed['same']:,} of {agreed['users']:,} users, "
        f"among {agreed['items']:,} items. Below, milliseconds per user, {_USERS} users at a time on one thread; codes of {len(SIZES)} levels of",
        f"{SIZES[0]} are drawn at random, states and vectors of width {WIDTH}, too. Medians of rounds in turn, least and largest. {machine}\n",
        "| items | beam | products with all vectors | beam, as a multiple of the smallest catalog's |",
        "| --- | ---: | ---: | ---: |",
    ]
    first = statistics.median(next(iter(found.values()))["beam"])
    for name, of_size in found.items():
        cells = [f"{statistics.median(ms):.2f} ({min(ms):.2f}–{max(ms):.2f})" for ms in of_size.values()]
        lines.append(f"| {name} | {' | '.join(cells)} | {statistics.median(of_size['beam']) / first:.2f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    typer.run(beams)
