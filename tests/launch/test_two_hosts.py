"""Training on two hosts with what TorchX starts on each node of a Slurm job."""

import os
import re
import sys
from pathlib import Path

from torchx.runner import get_runner
from torchx.specs import macros

from foundrank.dist.run.run_folder import read_json, read_metrics

from ..jobs.commands import ENVIRONMENT, TINY
from .hosts import INTERFACE, two_hosts

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
    with two_hosts(tmp_path) as hosts:
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
    with two_hosts(tmp_path, own_names_are_local=True) as (one, other):

        def start(host, rank, **more):
            group = {"WORLD_SIZE": "2", "GROUP_WORLD_SIZE": "2", "RANK": str(rank), "LOCAL_RANK": "0"}
            where = {"MASTER_ADDR": one.name, "MASTER_PORT": "29500"}
            return host.start([sys.executable, "-c", SUM], ENVIRONMENT | group | where | more, tmp_path / f"{rank}.log")

        assert start(other, 1).wait(60) == 1
        assert "GLOO_SOCKET_IFNAME" in (tmp_path / "1.log").read_text()
        ranks = [start(host, rank, GLOO_SOCKET_IFNAME=INTERFACE) for rank, host in enumerate((one, other))]
        assert [rank.wait(60) for rank in ranks] == [0, 0]
        assert "sum 2.0" in (tmp_path / "0.log").read_text()
