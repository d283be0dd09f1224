"""A rank stands still: the training ends in bounded time, and says which."""

import os
import signal
import subprocess
import time

from .commands import COMMAND, ENVIRONMENT, foundrank, ranks_of, settings
from .test_train_again import losses, wait_until


def test_a_training_with_a_rank_that_stands_still_ends_and_names_it(embedded, tmp_path):
    run = tmp_path / "run"
    changes = settings("training.stall_seconds=4", "training.epochs=50", "training.keep_best=false")
    command = [*COMMAND, "train", str(embedded), "--run-dir", str(run), *changes, "-p", "2"]
    said = tmp_path / "said"
    with said.open("w") as file:
        process = subprocess.Popen(command, env=ENVIRONMENT, stdout=file, stderr=file)
    wait_until(lambda: (run / "metrics.jsonl").is_file() and len(losses(run)) > 2, process)
    [_, still] = ranks_of(process)
    os.kill(still.pid, signal.SIGSTOP)
    wait_until(lambda: "no step in 4 s" in said.read_text(), process)
    time.sleep(1)
    still.kill()  # a launcher gives it half a minute
    assert process.wait(60) == 1
    errors = said.read_text()
    assert "rank 0 works on step" in errors
    assert "rank 1 has not been heard of for" in errors or "rank 1 has never shown itself" in errors
    assert "Traceback" not in errors
    foundrank("evaluate", run, status=2)  # nothing was saved yet, and that is what it says
