"""A run of several models, by the real commands: killed, trained on, evaluated, promoted."""

import json
import subprocess
from pathlib import Path

import psutil

from .commands import COMMAND, ENVIRONMENT, foundrank, settings
from .test_train_again import losses, wait_until

SMALL = settings("model.aspects=[id, sparse]", "training.checkpoint_every=10", "training.max_steps=40")


def steps(folder: Path) -> list[str]:
    return sorted(marker.parent.name for marker in folder.glob("checkpoints/*/COMMITTED"))


def test_a_killed_training_of_several_models_goes_on_and_all_predict(world, tmp_path):
    killed, second = tmp_path / "killed", tmp_path / "killed" / "members" / "1"
    command = ["train", world, "--run-dir", killed, *SMALL, "--set", "seeds=2"]
    process = subprocess.Popen(
        [*COMMAND, *map(str, command)], env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    wait_until(lambda: steps(second), process)
    for one in [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]:
        one.kill()
    process.wait()
    begun, info, first = steps(second), (killed / "run.json").read_text(), losses(killed)

    foundrank(*command)
    assert ((killed / "run.json").read_text(), losses(killed)) == (info, first)
    assert [step for step, *_ in losses(second)] == [step for step, *_ in first]
    assert losses(second) != first
    assert begun[-1] < steps(second)[-1] == f"step_{json.loads((second / 'run.json').read_text())['steps']:08d}"

    foundrank("evaluate", killed)
    both = json.loads((killed / "evaluation.json").read_text())["checkpoint"]
    assert "models, of which the first is shown" in (killed / "report.html").read_text()
    foundrank("promote", killed, tmp_path / "current")
    assert json.loads((tmp_path / "current" / "current.json").read_text())["checkpoint"] == both
    said = foundrank("train", world, "--run-dir", killed, *SMALL, "--set", "seeds=3", status=2)
    assert "seeds: 2 there, 3 here" in said.stderr

    (second / "checkpoints").rename(second / "gone")
    said = foundrank("evaluate", killed)
    assert "has 1 of its 2 models so far" in said.stdout
    assert json.loads((killed / "evaluation.json").read_text())["checkpoint"] != both
