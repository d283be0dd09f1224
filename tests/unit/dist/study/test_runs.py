"""In which order the study trains, which version it says trained, and how often it measures; nothing is trained."""

import itertools
import subprocess
from pathlib import Path

import pytest

from foundrank.dist.run.run_folder import write_json
from foundrank.dist.study import runs, study
from foundrank.dist.study.arms import FULL, PRETRAINED, Arm, DataSet
from foundrank.dist.study.kept import RESULT, folder, is_done, kept_predictions
from foundrank.dist.study.runs import Task, code_version, run_arms, trainings

DATA = DataSet("simulated", (), "events_feed", 500)
ARMS = (
    Arm(PRETRAINED, seeds=5),
    Arm(FULL, seeds=5),
    Arm("fine-tuned full, 5%", seeds=5, begins_from=PRETRAINED),
    Arm("gate: mean", tunes=False),
)
BEST = {PRETRAINED: 0.5, FULL: 2.0, "fine-tuned full, 5%": 1.0}


def end(task: Task) -> None:
    best = BEST.get(task.arm.name) == task.rate
    write_json(task.folder / RESULT, {"validation_auc": 0.7 if best else 0.6, "rate": task.rate})


def waiting(out: Path) -> list[Task]:
    return [task for task in trainings(DATA, ARMS, Path("study.yaml"), out, 4) if not is_done(task.folder)]


def test_arm_after_arm_is_tuned_and_finished(tmp_path):
    ended = []
    while left := waiting(tmp_path):
        end(left[0])
        ended.append(left[0])
    wanted = {
        name: [(1, 0.5), (1, 1.0), (1, 2.0), *((seed, rate) for seed in (2, 3, 4))] for name, rate in BEST.items()
    }
    wanted["gate: mean"] = [(seed, BEST[FULL]) for seed in (1, 2, 3)]
    of_arm = {
        name: [(task.seed, task.rate) for task in group]
        for name, group in itertools.groupby(ended, lambda task: task.arm.name)
    }
    assert list(of_arm.items()) == [(arm.name, wanted[arm.name]) for arm in ARMS]
    for task in ended:
        base = tmp_path / "runs/simulated/pretrained" / f"seed-{task.seed}-rate-0.5/run"
        assert task.base == (base if task.arm.begins_from else None)
        assert task.keep == (task.arm.name == PRETRAINED)


def test_nothing_begins_before_what_it_needs(tmp_path):
    tries = {(PRETRAINED, 1), (FULL, 1)}
    assert {(task.arm.name, task.seed) for task in waiting(tmp_path)} == tries
    for task in waiting(tmp_path):
        if task.arm.name == PRETRAINED:
            end(task)
    left = {(task.arm.name, task.seed) for task in waiting(tmp_path)}
    # The fine-tunings of other seeds wait for their bases, and for a rate; parts of the model for the full model's.
    assert left == {(FULL, 1), ("fine-tuned full, 5%", 1), *((PRETRAINED, seed) for seed in (2, 3, 4))}


def test_a_part_has_the_full_models_rate_whatever_an_earlier_version_tried(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(runs, "run_all", lambda _, left, *__: asked.append(left))
    run_arms(DATA, ARMS[1:2], Path("study.yaml"), tmp_path, 2, 1)
    full, part, seeds = ARMS[1], ARMS[3], 2
    for arm, rates in ((full, (0.5, 1.0, 2.0)), (part, (0.5, 1.0))):
        for rate in rates:
            end(Task(DATA, Path("study.yaml"), arm, 1, rate, folder(DATA, tmp_path, arm.name, 1, rate)))
    assert kept_predictions(DATA, part, tmp_path) == ([], 2.0)
    run_arms(DATA, (full, part), Path("study.yaml"), tmp_path, seeds, 1)
    left = [
        one for one in trainings(DATA, (full, part), Path("study.yaml"), tmp_path, seeds) if not is_done(one.folder)
    ]
    assert asked[0] == 4  # three rates, and another seed at one of them
    assert asked[1] == len(left) == 3
    for one in left:
        end(one)
    assert [path.name for path in kept_predictions(DATA, part, tmp_path)[0]] == ["seed-1-rate-2", "seed-2-rate-2"]
    run_arms(DATA, (full, part), Path("study.yaml"), tmp_path, 1, 1)
    assert asked[2] == 0


def test_the_version_names_the_commit_of_a_checkout_and_whether_it_was_changed(tmp_path, monkeypatch):
    def git(*words: str) -> str:
        identity = ("-c", "user.name=a", "-c", "user.email=a@example.com")
        return subprocess.run(
            ["git", *identity, *words], cwd=tmp_path, check=True, capture_output=True, text=True
        ).stdout

    code = tmp_path / "dist" / "study" / "runs.py"
    code.parent.mkdir(parents=True)
    code.write_text("")
    monkeypatch.setattr(runs, "__file__", str(code))
    monkeypatch.setattr(runs, "version", lambda _: "0.1.0")
    told = code_version.__wrapped__
    assert told() == "0.1.0"
    git("init", "-q")
    assert told() == "0.1.0"  # no commit yet
    git("add", ".")
    git("commit", "-qm", "first")
    commit = git("rev-parse", "--short", "HEAD").strip()
    assert told() == f"0.1.0 ({commit})"
    (tmp_path / "report.md").write_text("what the study itself writes")
    assert told() == f"0.1.0 ({commit})"
    code.write_text("pass")
    assert told() == f"0.1.0 ({commit}, changed since)"


def test_measuring_takes_little_of_the_time(monkeypatch: pytest.MonkeyPatch):
    clock, measured = [0.0], []
    monkeypatch.setattr(study.time, "monotonic", lambda: clock[0])

    def measure() -> None:
        measured.append(clock[0])
        clock[0] += 30 if len(measured) > 1 else 1

    after = study._now_and_then(measure)
    for now in (0.0, 10.0, 60.0, 62.0, 200.0, 390.0, 393.0):
        clock[0] = now
        after()
    assert measured == [0.0, 62.0, 393.0]
