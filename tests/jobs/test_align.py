"""Preference alignment by the real command: what it changes, killed and going on, and what is refused."""

import json
import shutil
import subprocess
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import foundrank as foundrank_library
from tests.coded_world import ITEMS, raw_experiment, rounds, write_world

from .commands import COMMAND, ENVIRONMENT, Here, foundrank
from .test_bad_input import check_told

LEARNING = "training.learning_rate=0.02; training.epochs=12; training.batch_size=64; model.id_dropout=0"
BY_VECTORS = {"aspects": ["id", "look"], "next_item": {"loss": "softmax"}}
ALIGN = ("-k", 4, "--pool", 12, "--set", "training.epochs=4; training.learning_rate=0.01; init_optimizer=false")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a generator, a run of the same data with tasks, and a table of rewards: of items by their number."""
    folder = tmp_path_factory.mktemp("align")
    path = write_world(folder / "data", raw_experiment(**BY_VECTORS), users=200, group=97)
    foundrank("train", path, "--run-dir", folder / "generator", "-p", 1, "--set", LEARNING)
    pairs = [(user, item, float(item % 3 == 0)) for user in range(30) for item in range(ITEMS)]
    columns = map(list, zip(*pairs, strict=True))
    pq.write_table(pa.table(dict(zip(("user", "item", "reward"), columns, strict=True))), folder / "wanted.parquet")
    return folder


def measures(out: Path) -> dict[tuple[str, str], dict]:
    told = json.loads((out / "alignment.json").read_text())
    return {(row["domain"], row["measure"]): row for row in told["measures"]}


@pytest.fixture(scope="module")
def aligned(runs: Path) -> Path:
    """Aligned with the table, at one go."""
    out = runs / "aligned"
    foundrank("align", runs / "generator", out, "--reward", runs / "wanted.parquet", "-p", 1, *ALIGN)
    return out


def test_the_reward_rises_and_is_told(aligned, runs, here: Here):
    row = measures(aligned)["home", "reward"]
    assert row["after"] > row["before"] + 0.02
    assert row["low"] > 0
    assert row["rows"] == 100
    report = (aligned / "report.html").read_text()
    assert "Preference alignment" in report
    assert f"{row['after']:.4f}" in report
    # What it learnt from is what lists were made of, and the run is a run like any other.
    found = pq.read_table(aligned / "candidates/train/rewarded/home")
    for items, rewards in zip(found["candidates"].to_pylist(), found["reward"].to_pylist(), strict=True):
        assert rewards == [float(item % 3 == 0) for item in items]
    assert here("evaluate", aligned, "-p", 1)[0] == 0
    (hit,) = [
        row["hr@10"]
        for row in json.loads((aligned / "evaluation.json").read_text())["next_item"]
        if (row["domain"], row["slice"]) == ("home", "all")
    ]
    assert hit == pytest.approx(measures(aligned)["home", "hr@10"]["after"], abs=0.011)  # what is past is left out


def test_killed_twice_it_goes_on_to_the_same(aligned, runs):
    out = runs / "killed"
    arguments = ("align", runs / "generator", out, "--reward", runs / "wanted.parquet", "-p", 1, *ALIGN)
    arguments += ("--set", "training.checkpoint_every=2")
    for until in ("candidates/*/found/*/part-*", "checkpoints/*/COMMITTED"):
        process = subprocess.Popen([*COMMAND, *map(str, arguments)], env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
        while process.poll() is None and not list(out.glob(until)):
            time.sleep(0.01)
        process.kill()
        process.wait()
        assert not (out / "alignment.json").exists()
    foundrank(*arguments)
    assert measures(out) == measures(aligned)
    parts = {path.relative_to(out) for path in out.glob("candidates/*/*/*/part-*")}
    assert parts == {path.relative_to(aligned) for path in aligned.glob("candidates/*/*/*/part-*")}
    for part in parts:
        assert pq.read_table(out / part).equals(pq.read_table(aligned / part))


def test_a_run_rewards_candidates_by_what_it_scores_pairs(runs, here: Here, tmp_path):
    out = tmp_path / "by_run"
    few = (*ALIGN, "--set", "training.max_steps=1")
    assert here("align", runs / "generator", out, "--reward", runs / "generator", "-p", 1, *few)[0] == 0
    found = pq.read_table(out / "candidates/train/rewarded/home").slice(0, 20)
    pairs = [
        (user, item, past, reward)
        for user, past, items, rewards in zip(*(found[name].to_pylist() for name in ("user", "history", "candidates", "reward")), strict=True)
        for item, reward in zip(items, rewards, strict=True)
    ]  # fmt: skip
    users, items, past, rewards = (list(of) for of in zip(*pairs, strict=True))
    table = {"user": users, "item": items, "history": pa.array(past, pa.list_(pa.int64()))}
    pq.write_table(pa.table(table), tmp_path / "pairs.parquet")
    assert (
        here("score", runs / "generator", tmp_path / "pairs.parquet", tmp_path / "scores", "--domain", "home")[0] == 0
    )
    scores = pq.read_table(tmp_path / "scores")["score_next_item"].to_pylist()
    assert scores == pytest.approx(rewards, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--reward", "hits", "--weights", "click=1"), ["--weights", "run's tasks"]),
        (("--reward", "{runs}/generator", "--weights", "click"), ["--weights", "TASK=NUMBER"]),
        (("--reward", "{runs}/generator", "--weights", "click=1"), ["--weights", "'click' is not a task of"]),
        (("--reward", "{runs}/nothing"), ["has no experiment.yaml"]),
        (("--reward", "{runs}/nothing.parquet"), ["nothing.parquet", "no such file"]),
        (("--reward", "{runs}/data/items.parquet"), ["items.parquet", "'user'", "is missing"]),
        (("--reward", "hits", "-k", 16, "--pool", 8), ["--candidates", "8 best"]),
        (("--reward", "hits", "--split", "train"), ["--split", "validation or test"]),
        (("--reward", "hits", "--set", "model.next_item.loss=gbce"), ["preference", "loss: softmax"]),
        (("--reward", "hits", "--set", "model.next_item.preference.kl=1"), ["preference.kl", "loss: grpo"]),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_before_anything_is_written(runs, here: Here, tmp_path, arguments, told):
    given = [str(of).replace("{runs}", str(runs)) for of in arguments]
    for more in ((), ("--check",)):
        check_told(here("align", runs / "generator", tmp_path / "out", *given, *more), told)
        assert not list(tmp_path.glob("out/**/part-*"))


def test_another_alignment_in_the_folder_is_refused(aligned, runs, here: Here, tmp_path):
    mine = shutil.copytree(aligned, tmp_path / "mine")
    again = ("align", runs / "generator", mine, "--reward", runs / "wanted.parquet", "-p", 1)
    check_told(here(*again, *ALIGN, "--pool", 13), ["holds another alignment", "grouping.pool: 12 there, 13 here"])
    check_told(
        here("align", runs / "generator", mine, "--reward", "noise", *ALIGN),
        ["holds another alignment", "reward: ", "Choose another folder"],
    )


def test_an_aligned_run_is_updated_by_events_alone_and_an_increment_is_not_aligned(aligned, here: Here, tmp_path):
    mine = shutil.copytree(aligned, tmp_path / "mine")
    pq.write_table(rounds(40, 99), tmp_path / "new.parquet")
    update = ("update", mine, "--events", f"home={tmp_path}/new.parquet", "-p", 1)
    alone = ("--set", "model.next_item.preference=null")
    check_told(here(*update), ["column 'candidates'", "is missing", " ".join(alone)])
    assert here(*update, *alone)[0] == 0
    check_told(here("align", mine, tmp_path / "again", "--reward", "hits"), ["is an increment", "init_from"])


def test_check_tells_what_would_be_done(aligned, runs, here: Here, tmp_path):
    arguments = ("--reward", runs / "generator", "--check", "-p", 1)
    told = foundrank("align", runs / "generator", tmp_path / "out", *arguments).stdout
    assert "400 users whose 16 candidates are rewarded by" in told
    assert "GiB on the fullest of 1 rank(s)" in told
    assert not (tmp_path / "out").exists()
    too_many = ("--set", "training.batch_size=500000000")
    check_told(here("align", runs / "generator", tmp_path / "out", *arguments, *too_many), ["do not fit 1 rank(s)"])
    goes_on = ("--reward", runs / "wanted.parquet", "--check", "-p", 1, *ALIGN)
    assert "where a training goes on" in foundrank("align", runs / "generator", aligned, *goes_on).stdout


def test_python_does_what_the_command_does(aligned, runs, tmp_path):
    changes = {"training": {"epochs": 4, "learning_rate": 0.01}, "init_optimizer": False}
    asked = {"candidates": 4, "pool": 12, "changes": changes, "processes": 1}
    told = foundrank_library.align(runs / "generator", tmp_path / "out", runs / "wanted.parquet", **asked)
    assert {(row["domain"], row["measure"]): row for row in told["measures"]} == measures(aligned)
