"""torchrun's own restarts: a rank dies, and training goes on from the newest checkpoint with as many ranks or with fewer."""

import socket
import subprocess
import sys
from pathlib import Path

import psutil

from foundrank.dist.run.run_folder import read_json, read_metrics

from .commands import ENVIRONMENT, TINY
from .test_train_again import wait_until

QUICK = "keep_alive_interval=1,keep_alive_max_attempt=2,last_call_timeout=1"
CHANGES = ("training.checkpoint_every=4", "training.keep_best=false", "model.aspects=[id, sparse]")


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def agent(world: Path, run: Path, port: int, nodes: str, ranks: int) -> subprocess.Popen:
    """One machine's torchrun, training; it may restart ranks twice."""
    options = [f"--nnodes={nodes}", f"--nproc-per-node={ranks}", "--max-restarts=2", "--monitor-interval=0.2"]
    options += ["--rdzv-backend=c10d", f"--rdzv-endpoint=127.0.0.1:{port}", "--rdzv-id=x", f"--rdzv-conf={QUICK}"]
    sets = [word for change in (*TINY, *CHANGES) for word in ("--set", change)]
    environment = ENVIRONMENT | {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "0" if nodes == "1" else "1"}
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        *options,
        "-m",
        "foundrank.dist.cli",
        "train",
        str(world),
        "--run-dir",
        str(run),
        *sets,
    ]
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def ranks_of(process: subprocess.Popen) -> list[psutil.Process]:
    return [one for one in psutil.Process(process.pid).children() if "foundrank.dist.cli" in one.cmdline()]


def committed(run: Path) -> bool:
    return any(run.glob("checkpoints/step_*/COMMITTED"))


def check_finished(run: Path, ranks: int) -> None:
    """The training is whole: each row of both epochs was read once."""
    info, (lines, _) = read_json(run / "run.json"), read_metrics(run / "metrics.jsonl")
    assert info["world_size"] == ranks
    assert sum(line["rows"] for line in lines) == 2 * info["rows"]
    assert [line["step"] for line in lines] == list(range(1, info["steps"] + 1))


def listens(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


def test_the_ranks_of_a_machine_start_again_when_one_is_killed(world, tmp_path):
    run = tmp_path / "run"
    process = agent(world, run, free_port(), "1", 2)
    try:
        wait_until(lambda: committed(run), process)
        ranks_of(process)[1].kill()
        assert process.wait(120) == 0
    finally:
        process.kill()
    check_finished(run, 2)


def test_training_goes_on_without_a_machine_that_is_gone(world, tmp_path):
    run, port = tmp_path / "run", free_port()
    first = agent(world, run, port, "1:2", 1)
    wait_until(lambda: listens(port), first)  # so that the rendezvous is on the machine that stays
    second = agent(world, run, port, "1:2", 1)
    try:
        wait_until(lambda: committed(run), first)
        for process in (psutil.Process(second.pid), *ranks_of(second)):
            process.kill()
        assert first.wait(120) == 0
    finally:
        first.kill()
        second.kill()
    check_finished(run, 1)
