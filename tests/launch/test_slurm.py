"""A training of two nodes through `torchx run -s slurm` on a real Slurm: cancelled, preempted twice, finished."""

import json
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from foundrank.dist.run.run_folder import read_json

from ..jobs.commands import TINY
from .slurm import PARTITION, URGENT, Cluster, cluster, wait_until

EXAMPLES = Path(__file__).parents[2] / "examples/slurm"
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


def test_a_job_that_is_given_notice_is_requeued_and_goes_on_where_it_was(slurm, world, tmp_path):
    run = tmp_path / "run"
    job = submit(slurm, world, tmp_path, "--max_retries", "1")

    # Notice before the time limit: the nodes' processes get the signal, and TorchX's script requeues the job.
    wait_until(lambda: len(steps(run)) > 1, lambda: logs(tmp_path))
    slurm.call("scancel", "--signal=USR1", job)
    first = stopped(slurm, job, run, restarts=1)
    assert "User defined signal" not in logs(tmp_path)  # torchrun has waited for its ranks
    slurm.wait_for_restart(job)

    assert slurm.wait(job, "COMPLETED")["ExitCode"] == "0:0"
    info = read_json(run / "run.json")
    assert info["world_size"] == 2
    assert 1 < first < info["steps"]
    assert steps(run) == list(range(1, info["steps"] + 1))  # none lost, none taken again
    assert (run / f"checkpoints/step_{info['steps']:08d}/COMMITTED").is_file()
    for what in (f"stopped after step {first}", "epoch 8 of 8", "wrote run"):
        assert what in logs(tmp_path)


def test_srun_alone_starts_ranks_and_a_second_submission_names_the_first(slurm, world, tmp_path):
    """Two tasks on one node; the examples below have two nodes."""
    run = tmp_path / "run"
    train = f"foundrank train {world} --run-dir {run} --set '{CHANGES}; training.epochs=400'"

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
    assert not list(run.glob(".lease*"))


def test_srun_starts_ranks_whose_network_is_measured(slurm, world, tmp_path):
    check = f"srun --overcommit --ntasks=2 foundrank train {world} --run-dir {tmp_path}/run --check --network --set '{CHANGES}'"
    job = slurm.call(
        "sbatch", "--parsable", "--no-requeue", f"--output={tmp_path}/slurm-%j", "--nodes=1", f"--wrap={check}"
    ).strip()
    assert slurm.wait(job, "COMPLETED")["ExitCode"] == "0:0", logs(tmp_path)
    assert "2 ranks on 1 host(s)" in logs(tmp_path)
    assert logs(tmp_path).count("checks passed") == 1
    assert not (tmp_path / "run").exists()


def sbatch(slurm: Cluster, folder: Path, *words: object) -> str:
    """Submits one of the examples with this cluster's nodes; the job's id."""
    small = (f"--partition={PARTITION}", "--cpus-per-task=1", "--mem=2000")
    done = slurm.run("sbatch", "--parsable", *small, *map(str, words), cwd=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_examples_are_preempted_and_requeued_and_finish(slurm, world, tmp_path):
    run, small = tmp_path / "run", ("--nodes=2", "--ntasks-per-node=1")
    job = sbatch(
        slurm, tmp_path, *small, EXAMPLES / "train.sbatch", world, run, "--set", f"{CHANGES}; training.epochs=3"
    )

    def said() -> str:
        return "\n".join(path.read_text() for path in sorted(tmp_path.glob("foundrank-*.log")))

    # Preemption by a more urgent job, which scores two days with what the training has saved; a third is on no line.
    for day in ("2026-11-01", "2026-11-02"):
        (tmp_path / f"in/day={day}").mkdir(parents=True)
        table = pq.read_table(sorted((world / "events/shop_search/test").glob("*.parquet"))[0])
        pq.write_table(table.slice(0, 50), tmp_path / f"in/day={day}/rows.parquet")
    (tmp_path / "days.txt").write_text("2026-11-01\n2026-11-02\n")
    wait_until(lambda: len(steps(run)) > 1, said)
    urgent = (f"--partition={URGENT}", "--array=1-3")
    scores = (run, tmp_path / "in", tmp_path / "scores", "days.txt", "--domain", "shop_search")
    array = sbatch(slurm, tmp_path, *urgent, EXAMPLES / "score.sbatch", *scores)
    saved = stopped(slurm, job, run, restarts=1)

    assert slurm.wait(job, "COMPLETED")["ExitCode"] == "0:0"
    info = read_json(run / "run.json")
    assert info["world_size"] == 2  # srun's tasks are the ranks of one training
    assert 1 < saved < info["steps"]
    assert steps(run) == list(range(1, info["steps"] + 1)), said()
    for what in (f"stopped after step {saved}", "wrote "):  # the log goes on
        assert what in said()
    codes = [slurm.job(f"{array}_{task}")["ExitCode"] for task in (1, 2, 3)]
    assert codes == ["0:0", "0:0", "2:0"], said()
    for day in ("2026-11-01", "2026-11-02"):
        assert (tmp_path / f"scores/day={day}/_SUCCESS").is_file()


@pytest.mark.parametrize("example", ["train", "score"])
@pytest.mark.parametrize(
    ("asked", "status", "requeued"), [(True, 75, True), (False, 75, False), (True, 0, False), (False, 2, False)]
)
def test_the_examples_requeue_themselves_only_where_they_were_asked_to_stop_and_go_on(
    tmp_path, example, asked, status, requeued
):
    """Without Slurm: programs of its names in a folder."""
    leaves = f"touch {tmp_path}/up; sleep 60 & wait" if asked else "true"
    programs = {
        "srun": f"trap 'kill $!; exit {status}' USR1; {leaves}; exit {status}",
        "scontrol": f'echo "$@" >> {tmp_path}/asked',
    }
    for name, lines in programs.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{lines}\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "days.txt").write_text("2026-11-01\n")
    given = {"train": ["shop.yaml", "run"], "score": ["run", "in", "out", "days.txt"]}[example]
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "SLURM_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "1"}
    job = subprocess.Popen(["bash", EXAMPLES / f"{example}.sbatch", *given], env=environment, cwd=tmp_path)
    if asked:
        wait_until((tmp_path / "up").exists, lambda: "not started")
        job.send_signal(signal.SIGUSR1)
    assert job.wait(30) == status
    assert (tmp_path / "asked").exists() == requeued
    if requeued:
        assert (tmp_path / "asked").read_text() == "requeue 7\n"
