"""Tuning as a job: real trainings, some given up, none that sees the test split; killed and run again."""

import json
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import optuna
import psutil
import pytest
import yaml
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from foundrank.data.config.load import load_experiment
from foundrank.model.kinds import KINDS

from .commands import COMMAND, ENVIRONMENT, foundrank, settings
from .test_train_again import wait_until

pytestmark = pytest.mark.timeout(900)  # a training is a process that begins with its imports
TRIED = {"training.learning_rate": {"choice": [0.005, 1e-8]}, "training.epochs": {"linear": [2, 3]}}
ASKED = settings(
    *("text.vectors=none", "training.epochs=2", "training.sparse_learning_rate=1e-3", "training.batch_size=512"),
    "model.aspects=[id, sparse]",
)


@pytest.fixture(scope="module")
def poisoned(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The world with a test split that nobody could read."""
    folder = tmp_path_factory.mktemp("tune") / "world"
    shutil.copytree(world, folder)
    files = list(folder.glob("events/*/test/*.parquet"))
    assert files
    for file in files:
        file.write_bytes(b"PAR1 nothing of use PAR1")
    return folder


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("space") / "space.yaml"
    path.write_text(yaml.safe_dump(TRIED))
    return path


@pytest.fixture(scope="module")
def tuned(poisoned: Path, space: Path) -> tuple[Path, str]:
    """Four trials, two at a time, and what was said."""
    out = poisoned.parent / "out"
    done = foundrank(
        "tune", poisoned, out, "--trials", 4, "--parallel", 2, "--space", space, "--keep", 1, *ASKED, timeout=600
    )
    return out, done.stdout + done.stderr


def trials_in(out: Path) -> list[FrozenTrial]:
    storage = JournalStorage(JournalFileBackend(str(out / "trials.log")))
    return optuna.load_study(study_name="tune", storage=storage).trials


def steps_of(out: Path, number: int) -> list[int]:
    lines = (out / f"trials/{number:04d}/run/metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["step"] for line in lines]


def told(out: Path, number: int) -> dict[str, Any]:
    return json.loads((out / f"trials/{number:04d}/run/run.json").read_text())


def test_every_trial_is_a_training_judged_on_validation(tuned):
    out, _ = tuned
    found = trials_in(out)
    assert len(found) == 4
    assert {one.state for one in found} <= {TrialState.COMPLETE, TrialState.PRUNED}
    assert found[0].params == {"training.learning_rate": "0.005", "training.epochs": 2}
    for one in found:
        if one.state == TrialState.COMPLETE:
            best = json.loads((out / f"trials/{one.number:04d}/run/best.json").read_text())
            assert one.value == pytest.approx(best["validation"])
            assert told(out, one.number)["steps"] == steps_of(out, one.number)[-1]


def test_what_falls_behind_stops(tuned):
    out, _ = tuned
    found = trials_in(out)
    behind = [one for one in found if one.state == TrialState.PRUNED]
    assert behind
    an_epoch = steps_of(out, 0)[-1] // 2
    for one in behind:
        assert "steps" not in told(out, one.number)  # which a training notes at its end
        assert steps_of(out, one.number)[-1] < one.params["training.epochs"] * an_epoch


def test_the_data_is_counted_once(tuned):
    out, _ = tuned
    assert len(list((out / "counts").iterdir())) == 1
    logs = [log.read_text() for log in out.glob("trials/*/log.txt")]
    assert all("the training events were counted before" in log for log in logs)


def test_checkpoints_of_the_best_stay(tuned):
    out, _ = tuned
    best = max((one for one in trials_in(out) if one.value is not None), key=lambda one: (one.value, -one.number))
    assert [folder.parent.parent.name for folder in out.glob("trials/*/run/checkpoints")] == [f"{best.number:04d}"]


def test_the_best_experiment_is_whole_and_trains_to_the_same(tuned, world, tmp_path):
    out, said = tuned
    best = max((one for one in trials_in(out) if one.value is not None), key=lambda one: (one.value, -one.number))
    assert f"trial {best.number}" in said
    text = (out / "best.yaml").read_text()
    found = load_experiment(out / "best.yaml", kinds=KINDS)
    assert found.training.learning_rate == 0.005
    assert all(domain.events.test for domain in found.domains.values())
    if best.number:
        assert f"learning_rate: 0.005  # trial {best.number}" in text
    (tmp_path / "best.yaml").write_text(
        text.replace(str(out.parent / "world"), str(world))
    )  # whose test split is whole
    foundrank("train", tmp_path / "best.yaml", "--run-dir", tmp_path / "run")
    reached = json.loads((tmp_path / "run" / "best.json").read_text())["validation"]
    assert reached == pytest.approx(best.value, abs=1e-3)


def test_the_page_stands_alone(tuned):
    page = (tuned[0] / "report.html").read_text()
    assert page.count("<svg") >= 2
    assert "http" not in page
    assert page.count('<tr class="line">') >= 4


def test_more_trials_are_added_and_done_ones_stay(tuned, poisoned, space):
    out, _ = tuned
    before = trials_in(out)
    foundrank("tune", poisoned, out, "--trials", 5, "--space", space, "--keep", 1, *ASKED)
    after = trials_in(out)
    assert len(after) == 5
    assert [(one.number, one.value, one.datetime_complete) for one in after[:4]] == [
        (one.number, one.value, one.datetime_complete) for one in before
    ]


def test_another_tuning_in_the_folder_is_refused(tuned, poisoned, space):
    out, _ = tuned
    done = foundrank("tune", poisoned, out, "--space", space, *ASKED, "--set", "model.width=8", status=2)
    assert "holds trials of something else (experiment.model.width: 16 there, 8 here)" in done.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--objective", "cold_itmes"], "--objective"),
        (["--space", "SPACE"], "training.lerning_rate"),
        (["--set", "domains.shop_feed.events.train=nowhere/*.parquet"], "nowhere"),
    ],
)
def test_mistakes_are_told_before_anything_is_made(poisoned, tmp_path, options, said):
    (tmp_path / "space.yaml").write_text("training.lerning_rate: {log: [1e-4, 1e-1]}")
    given = [str(tmp_path / "space.yaml") if option == "SPACE" else option for option in options]
    done = foundrank("tune", poisoned, tmp_path / "out", *ASKED, *given, status=2)
    assert said in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_tuning_that_was_killed_or_stopped_goes_on(poisoned, space, tmp_path):
    out = tmp_path / "out"
    command = ["tune", poisoned, out, "--trials", 2, "--space", space, *ASKED, "--set", "training.epochs=6"]
    command += ["--set", "training.checkpoint_every=5"]

    def begin() -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*COMMAND, *map(str, command)], env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    first = out / "trials/0000/run"
    process = begin()
    wait_until(lambda: list(first.glob("checkpoints/*/COMMITTED")), process)
    [training] = psutil.Process(process.pid).children()
    process.kill()  # the training goes on by itself
    process.communicate()
    assert training.is_running()

    process = begin()
    wait_until(lambda: not training.is_running() or training.status() == psutil.STATUS_ZOMBIE, process)
    reached = steps_of(out, 0)[-1]
    wait_until(lambda: steps_of(out, 0)[-1] > reached, process)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=90)
    assert process.returncode == 75, errors
    assert trials_in(out)[0].state == TrialState.RUNNING
    assert "stopped after step" in (out / "trials/0000/log.txt").read_text()

    foundrank(*command, timeout=300)
    found = trials_in(out)
    assert len(found) == 2
    assert found[0].state == TrialState.COMPLETE
    assert told(out, 0)["steps"] == steps_of(out, 0)[-1]
    assert len(set(steps_of(out, 0))) == len(steps_of(out, 0))
