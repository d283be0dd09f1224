"""A training of two nodes through `torchx run -s slurm` on a real Slurm: cancelled, preempted twice, finished."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from foundrank.dist.run.run_folder import read_json

from ..jobs.commands import TINY
from .slurm import PARTITION, URGENT, Cluster, cluster, wait_until

CHANGES = "; ".join(
    (
        *TINY,
        "training.epochs=8",
        "training.checkpoint_every=100000",
        "training.keep_best=false",
        "model.aspects=[id, sparse]",
    )
)


@pytest.fixture(scope="module")
def slurm() -> Iterator[Cluster]:
    with cluster() as running:
        yield running


def submit(slurm: Cluster, world: Path, folder: Path, *options: str) -> str:
    """Submits a training into ``folder/run`` on two nodes; the job's id."""
    (folder / ".torchxconfig").write_text(f"[slurm]\npartition = {PARTITION}\n")
    arguments = ["--experiment", str(world), "--run", "run", "--nnodes", "2", "--nproc", "1", "--cpu", "1"]
    arguments += ["--memMB", "2000", "--rdzv_port", str(slurm.free_port), *options]
    done = slurm.run("torchx", "run", "-s", "slurm", "foundrank.train", *arguments, "--", "--set", CHANGES, cwd=folder)
    submitted = re.search(r"^slurm://\w*/(\d+)$", done.stdout, re.MULTILINE)
    assert submitted, done.stderr
    assert "['sacct'" in done.stderr  # it asks for the state then, which takes accounting; docs/how-to/launching.md
    return submitted[1]


def steps(run: Path) -> list[int]:
    """Every step in the log, in the order in which they were taken."""
    log = run / "metrics.jsonl"
    whole = log.read_text().split("\n")[:-1] if log.is_file() else []
    return [json.loads(line)["step"] for line in whole]


def stopped(slurm: Cluster, job: str, run: Path, restarts: int) -> int:
    """The step at which a requeued training has saved: the last one in its log."""
    pending = slurm.wait(job, "PENDING")
    assert pending["Restarts"] == str(restarts)
    last = steps(run)[-1]
    assert (run / f"checkpoints/step_{last:08d}/COMMITTED").is_file()
    return last


def logs(folder: Path) -> str:
    """What all nodes have said."""
    return "\n".join(path.read_text() for path in sorted(folder.glob("slurm-*")))


def test_a_cancelled_job_leaves_no_process(slurm, world, tmp_path):
    job = submit(slurm, world, tmp_path)
    wait_until(lambda: {"0", "1"} <= {one.get("RANK") for one in slurm.processes()}, lambda: logs(tmp_path))
    slurm.call("scancel", job)
    slurm.wait(job, "CANCELLED")
    wait_until(lambda: not slurm.processes(), lambda: f"still there: {slurm.processes()}")


def test_a_preempted_job_is_requeued_and_goes_on_where_it_was(slurm, world, tmp_path):
    run = tmp_path / "run"
    job = submit(slurm, world, tmp_path, "--max_retries", "1")

    # Notice before the time limit: the nodes' processes get the signal, and TorchX's script requeues the job.
    wait_until(lambda: len(steps(run)) > 1, lambda: logs(tmp_path))
    slurm.call("scancel", "--signal=USR1", job)
    first = stopped(slurm, job, run, restarts=1)
    assert "User defined signal" not in logs(tmp_path)  # torchrun has waited for its ranks
    slurm.wait_for_restart(job)

    # Preemption: Slurm ends and requeues the job, because one of higher priority needs its nodes.
    wait_until(lambda: steps(run)[-1] > first, lambda: logs(tmp_path))
    slurm.call("sbatch", f"--partition={URGENT}", "--nodes=2", "--output=/dev/null", "--wrap=true")
    second = stopped(slurm, job, run, restarts=2)
    slurm.wait_for_restart(job)

    assert slurm.wait(job, "COMPLETED")["ExitCode"] == "0:0"
    info = read_json(run / "run.json")
    assert info["world_size"] == 2
    assert 1 < first < second < info["steps"]
    assert steps(run) == list(range(1, info["steps"] + 1))  # none lost, none taken again
    assert (run / f"checkpoints/step_{info['steps']:08d}/COMMITTED").is_file()
    for what in (f"stopped after step {first}", f"stopped after step {second}", "epoch 8 of 8", "wrote run"):
        assert what in logs(tmp_path)


def test_srun_alone_starts_ranks_and_a_second_submission_names_the_first(slurm, world, tmp_path):
    """Two tasks on one node; a job submitted twice; then two tasks on two nodes, which go on where the others were."""
    run = tmp_path / "run"
    train = f"foundrank train {world} --run-dir {run} --set '{CHANGES}; training.epochs=16'"

    def batch(command: str, *options: str) -> str:
        script, log = f"--wrap={command}", f"--output={tmp_path}/slurm-%j"
        return slurm.call("sbatch", "--parsable", "--no-requeue", log, *options, script).strip()

    first = batch(f"srun --overcommit --ntasks=2 {train}", "--nodes=1")
    wait_until(lambda: len(steps(run)) > 1, lambda: logs(tmp_path))
    second = batch(train, "--nodes=1")
    assert slurm.wait(second, "FAILED")["ExitCode"] == "75:0", logs(tmp_path)
    assert f"Slurm job {first} of cluster foundrank" in (tmp_path / f"slurm-{second}").read_text()
    slurm.call("scancel", "--signal=USR1", first)
    assert slurm.wait(first, "FAILED")["ExitCode"] == "75:0", logs(tmp_path)
    saved = steps(run)[-1]
    assert (run / f"checkpoints/step_{saved:08d}/COMMITTED").is_file()
    third = batch(f"srun --ntasks=2 {train}", "--nodes=2")
    slurm.wait(third, "COMPLETED")
    info = read_json(run / "run.json")
    assert info["world_size"] == 2
    assert steps(run) == list(range(1, info["steps"] + 1)), logs(tmp_path)
    assert not list(run.glob(".lease*"))
