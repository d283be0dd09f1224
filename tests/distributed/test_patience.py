"""A training with patience ends where its validations say, on every rank, and however often it is interrupted."""

import json
import shutil
from pathlib import Path

import pytest

from foundrank.dist.evaluate.evaluate import validation_score
from foundrank.dist.run.kept_checkpoints import best, complete

from .harness import run_ranks
from .rank_work import make_encoder, train_run

RATE = "training.learning_rate=0.5"  # far too high, so that validation soon stops getting better


def scores_of(run: Path, layout) -> dict[int, float]:
    rows = json.loads((run / "validation.json").read_text())["rows"]
    scores = {step: validation_score(layout, [row for row in rows if row["step"] == step]) for step in steps(rows)}
    assert None not in scores.values()
    return scores  # type: ignore[return-value]


def steps(rows) -> list[int]:
    return sorted({row["step"] for row in rows})


def losses_of(run: Path) -> list[tuple[int, float]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [(line["step"], line["loss"]) for line in lines]


def ends_after(scores: dict[int, float], patience: int) -> int | None:
    """The step after which ``patience`` scores in a row were no better than the best before."""
    every = sorted(scores)
    for at in range(patience, len(every)):
        before, since = every[: at - patience + 1], every[at - patience + 1 : at + 1]
        if max(scores[step] for step in since) <= max(scores[step] for step in before):
            return every[at]
    return None


@pytest.mark.parametrize("within", [True, False], ids=["within epochs", "after epochs"])
def test_it_ends_where_validation_says_and_goes_on_to_the_same_end(small, tmp_path, within):
    changes = ("training.validate_every=2", "training.epochs=3") if within else ("training.epochs=6",)
    changes = (RATE, "training.batch_size=400", "training.keep_checkpoints=99", *changes)
    whole, ended = tmp_path / "whole", tmp_path / "ended"
    run_ranks(train_run, 2, small(*changes), whole)
    layout = make_encoder(small(*changes)).layout
    scores = scores_of(whole, layout)
    end = ends_after(scores, 2)
    assert end is not None
    assert end < max(scores)

    impatient = small(*changes, "training.patience=2")
    run_ranks(train_run, 2, impatient, ended)
    assert scores_of(ended, layout) == {step: score for step, score in scores.items() if step <= end}
    assert losses_of(ended) == losses_of(whole)[:end]  # the schedule is that of all epochs
    assert max(complete(ended)) == end
    assert json.loads((ended / "run.json").read_text())["ended_by_patience"]
    assert not json.loads((whole / "run.json").read_text())["ended_by_patience"]
    chosen = best(ended).name

    # Killed before its last validation but one was saved: it has to know what it has waited for.
    for step in sorted(complete(ended))[-2:]:
        (ended / "checkpoints" / f"step_{step:08d}" / "COMMITTED").unlink()
    run_ranks(train_run, 2, impatient, ended)
    assert max(complete(ended)) == end
    assert losses_of(ended) == losses_of(whole)[:end]
    assert best(ended).name == chosen

    again = tmp_path / "again"
    shutil.copytree(ended, again)
    run_ranks(train_run, 2, impatient, again)  # it has ended: nothing is left to do
    assert sorted(complete(again)) == sorted(complete(ended))
    assert losses_of(again) == losses_of(ended)
