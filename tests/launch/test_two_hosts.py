"""Training on several hosts with what TorchX starts on each node of a Slurm job, and what is measured between them."""

import json
import os
import re
import sys
from pathlib import Path

from torchx.runner import get_runner
from torchx.specs import macros

from foundrank.dist.run.run_folder import read_json, read_metrics

from ..jobs.commands import COMMAND, ENVIRONMENT, TINY, settings
from .hosts import INTERFACE, hosts_on_a_switch

PATH = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}  # where torchrun is
SUM = """
import torch
from foundrank.dist.ranks.runtime import start
with start() as runtime:
    print("sum", runtime.sum(torch.ones(1)).item())
"""


def test_two_hosts_train_one_model(world, tmp_path):
    run = tmp_path / "run"
    changes = "; ".join((*TINY, "training.epochs=1", "training.keep_best=false", "model.aspects=[id, sparse]"))
    arguments = ["--experiment", str(world), "--run", str(run), "--nnodes", "2", "--nproc", "1", "--", "--set", changes]
    with get_runner() as runner:
        request = runner.dryrun_component("foundrank.train", arguments, "slurm", {"partition": "any"}).request
    with hosts_on_a_switch(tmp_path) as hosts:
        agents = []
        for host, replica in zip(hosts, request.replicas.values(), strict=True):
            command = [word.replace(macros.app_id, "7") for word in (replica.entrypoint, *replica.args)]
            environment = ENVIRONMENT | PATH | replica.env | {"SLURM_JOB_NODELIST_HET_GROUP_0": hosts[0].name}
            agents.append(host.start(command, environment, tmp_path / f"{host.name}.log"))
        statuses = [agent.wait(120) for agent in agents]
        said = [(tmp_path / f"{host.name}.log").read_text() for host in hosts]
        assert statuses == [0, 0], "\n".join(said)
        for line in "".join(said).splitlines():  # no library says that connections end with their job
            # torchrun's own may, where the host of its store ends between two beats of another, or before another leaves.
            of_torchrun = r"W\d{4} .* (keep-alive heartbeat|has failed to shutdown the rendezvous)"
            assert re.match(rf"\d{{4}}-\d\d-\d\dT\S+Z rank 0  |wrote |next: |{of_torchrun}", line), line
        received = [host.bytes_received() for host in hosts]
    info, (lines, _) = read_json(run / "run.json"), read_metrics(run / "metrics.jsonl")
    assert info["world_size"] == 2
    assert sum(line["rows"] for line in lines) == info["rows"]
    assert (run / f"checkpoints/step_{info['steps']:08d}/COMMITTED").is_file()
    dense = 4 * info["dense_parameters"]  # bytes of gradients that each step sums over the hosts
    assert min(received) > info["steps"] * dense


def test_a_host_that_knows_itself_as_local_is_told_what_to_set(tmp_path):
    with hosts_on_a_switch(tmp_path, own_names_are_local=True) as (one, other):

        def start(host, rank, **more):
            group = {"WORLD_SIZE": "2", "GROUP_WORLD_SIZE": "2", "RANK": str(rank), "LOCAL_RANK": "0"}
            where = {"MASTER_ADDR": one.name, "MASTER_PORT": "29500"}
            return host.start([sys.executable, "-c", SUM], ENVIRONMENT | group | where | more, tmp_path / f"{rank}.log")

        assert start(other, 1).wait(60) == 1
        assert "GLOO_SOCKET_IFNAME" in (tmp_path / "1.log").read_text()
        ranks = [start(host, rank, GLOO_SOCKET_IFNAME=INTERFACE) for rank, host in enumerate((one, other))]
        assert [rank.wait(60) for rank in ranks] == [0, 0]
        assert "sum 2.0" in (tmp_path / "0.log").read_text()


def test_the_host_that_sends_slowly_is_named(world, tmp_path):
    with hosts_on_a_switch(tmp_path, 3) as hosts:
        slow = hosts[1]
        slow.slow_down(40)
        check = [
            "train",
            str(world),
            "--run-dir",
            str(tmp_path / "run"),
            "--check",
            "--network",
            "--log-format",
            "json",
        ]
        command = [*COMMAND, *check, *settings("model.aspects=[id, sparse]")]
        where = {"MASTER_ADDR": hosts[0].name, "MASTER_PORT": "29500", "WORLD_SIZE": "3", "LOCAL_RANK": "0"}
        where |= {"LOCAL_WORLD_SIZE": "1", "GROUP_WORLD_SIZE": "3"}
        ranks = [
            host.start(command, ENVIRONMENT | where | {"RANK": str(rank)}, tmp_path / f"{rank}.log")
            for rank, host in enumerate(hosts)
        ]
        statuses = [rank.wait(120) for rank in ranks]
    said = [(tmp_path / f"{rank}.log").read_text() for rank in range(3)]
    assert statuses == [0, 0, 0], "\n".join(said)
    records = [json.loads(line) for line in said[0].splitlines()]
    (named,) = [record for record in records if record["event"] == "network_slow"]
    assert (named["of_rank"], named["host"]) == (1, slow.name)
    assert 0.001 < named["gb_s"] < 0.006 < named["others_gb_s"] / 2  # 40 megabits are 0.005 gigabytes
    (step,) = [record for record in records if record["event"] == "network_step"]
    assert step["ms"] > 0
    assert not (tmp_path / "run").exists()
