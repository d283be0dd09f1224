"""A run of several models is as many trainings in one folder, which predict as one."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from foundrank.data.config.experiment import Experiment
from foundrank.data.events.check_events import check_events
from foundrank.dist.evaluate.evaluate import evaluate_run
from foundrank.dist.evaluate.prepare import prepare_evaluation
from foundrank.dist.ranks.runtime import Runtime
from foundrank.dist.retrieval.retrieval import Retriever
from foundrank.dist.run.kept_checkpoints import best_of_members, complete, identity, members
from foundrank.dist.score.score import RowScorer, model_of
from foundrank.dist.score.scoring_input import ScoringJob

from .harness import run_ranks
from .rank_work import train_run

SHORT = (
    *("training.batch_size=400", "training.max_steps=6", "training.checkpoint_every=2"),
    *("training.keep_checkpoints=99", "model.dropout=0.2"),
)
FINDS = ("model.history={encoder: sasrec, layers: 1, dropout: 0}", "model.next_item={negatives: 16}")
PATIENT = 240.0  # seconds: a call trains several models
DOMAIN, SEEDS = "shop_feed", (5, 6)


def predicted(runtime: Runtime, run: Path) -> tuple[dict[str, Any], np.ndarray, np.ndarray]:
    """The evaluation, the scores of a domain's test rows, and what all items say to a few users."""
    evaluated = evaluate_run(runtime.on_main(lambda: prepare_evaluation(run, "test")), runtime)
    encoder, model, _ = model_of(run, runtime)
    files = check_events(encoder.experiment, ["test"])[DOMAIN]["test"].files
    table = pq.read_table(files[0])
    scored, _ = RowScorer(model, encoder, runtime, ScoringJob(run, "rows", "", DOMAIN)).score_table(table, "rows")
    retriever = Retriever(model, encoder, runtime)
    vectors = retriever.ranking.scores.vectors
    products = (vectors[:7] @ vectors.T).numpy()  # items as users: mean of products, times N
    return evaluated, scored["score_click"].to_numpy(), products


def losses_of(folder: Path) -> list[tuple[int, float]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [(line["step"], line["loss"]) for line in lines]


@pytest.fixture(scope="module")
def runs(small, tmp_path_factory) -> tuple[Experiment, Path, list[Path]]:
    """A run of several models, and runs of one model with the same seeds."""
    folder = tmp_path_factory.mktemp("seeds")
    experiment = small(*SHORT, *FINDS, f"seeds={len(SEEDS)}", f"seed={SEEDS[0]}")
    run_ranks(train_run, 2, experiment, folder / "run", deadline=PATIENT)
    alone = []
    for seed in SEEDS:
        alone.append(folder / f"seed{seed}")
        run_ranks(train_run, 2, small(*SHORT, *FINDS, f"seed={seed}"), alone[-1], deadline=PATIENT)
    return experiment, folder / "run", alone


def test_each_model_is_the_training_with_its_seed(runs):
    _, run, alone = runs
    assert members(run) == [run, run / "members" / "1"]
    for member, single in zip(members(run), alone, strict=True):
        assert losses_of(member) == losses_of(single)
        assert sorted(complete(member)) == sorted(complete(single))
        assert [path.name for path in best_of_members(single)] == [
            best_of_members(run)[members(run).index(member)].name
        ]
    assert losses_of(alone[0]) != losses_of(alone[1])
    assert not (run / "members" / "1" / "vocabulary").exists()


def test_they_predict_their_mean(runs):
    _, run, alone = runs
    of_each = [run_ranks(predicted, 2, single)[0] for single in alone]
    logits = [np.log(scores) - np.log1p(-scores) for _, scores, _ in of_each]
    for ranks in (1, 2):
        evaluated, scores, products = run_ranks(predicted, ranks, run)[0]
        np.testing.assert_allclose(scores, 1 / (1 + np.exp(-np.mean(logits, 0))), rtol=1e-4)
        np.testing.assert_allclose(products, np.sum([of for *_, of in of_each], 0), rtol=1e-3, atol=1e-4)
        assert evaluated["checkpoint"] == identity(best_of_members(run)) != of_each[0][0]["checkpoint"]
        assert len(evaluated["rows"]) == len(of_each[0][0]["rows"])
        assert evaluated["next_item"][0]["hr@10"] is not None


def test_a_killed_training_goes_on_with_the_model_it_was_at(runs, tmp_path):
    experiment, run, _ = runs
    killed = tmp_path / "killed"
    shutil.copytree(run, killed)
    second = killed / "members" / "1"
    begun = sorted(complete(second))
    for step in begun[1:]:
        (second / "checkpoints" / f"step_{step:08d}" / "COMMITTED").unlink()
    (second / "run.json").unlink()
    written = (killed / "run.json").stat().st_mtime_ns
    assert len(run_ranks(predicted, 1, killed)[0][1])  # those there are predict
    run_ranks(train_run, 2, experiment, killed, deadline=PATIENT)
    assert (killed / "run.json").stat().st_mtime_ns == written  # the first is not looked at again
    for given, wanted in zip(members(killed), members(run), strict=True):
        assert losses_of(given) == losses_of(wanted)
        assert sorted(complete(given)) == sorted(complete(wanted))
    given, wanted = (run_ranks(predicted, 1, folder)[0] for folder in (killed, run))
    np.testing.assert_array_equal(given[1], wanted[1])


def test_models_begin_with_those_of_the_run_they_are_fine_tuned_from(runs, small, tmp_path):
    _, run, alone = runs
    tuned = tmp_path / "tuned"
    once = ("training.max_steps=1", "training.log_every=1", "training.keep_best=false", "model.dropout=0")
    experiment = small(*SHORT, *FINDS, f"init_from={run}", "seeds=3", *once)
    run_ranks(train_run, 1, experiment, tuned, deadline=PATIENT)
    found = [losses_of(folder)[0][1] for folder in members(tuned)]
    for single, loss in zip((*alone, alone[0]), found, strict=True):  # after the last, the first again
        of_one = tmp_path / single.name
        seed = experiment.seed + found.index(loss)
        run_ranks(
            train_run, 1, small(*SHORT, *FINDS, f"init_from={single}", f"seed={seed}", *once), of_one, deadline=PATIENT
        )
        assert losses_of(of_one)[0][1] == loss
        shutil.rmtree(of_one)
