"""How a foundrank command becomes a TorchX job: checked here first, then torchrun on every machine."""

import subprocess
import sys
from typing import Dict, List, Optional

import torchx.specs as specs
from torchx.components.dist import ddp

from foundrank.torchx_components.pods import laid_over

_SIGNALS = "SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1"


def check_first(command: str, arguments: List[str], wanted: bool) -> None:
    """Runs the command with --check; ends this program if it finds something, which the command has told by then."""
    if (
        wanted
        and subprocess.run([sys.executable, "-m", "foundrank.dist.cli", command, *arguments, "--check"]).returncode
    ):
        print(
            "nothing was submitted; where only the cluster sees these files, add --check False",
            file=sys.stderr,
        )
        raise SystemExit(2)


def cluster_of(nnodes: int, nproc: int, node: specs.Resource, h: Optional[str]) -> str:
    """What `foundrank train --check` is told of the nodes. A GPU is what the named resource begins with, else an h100."""
    gpus = {"a100": "a100-80", "h100": "h100", "h200": "h200"}
    device = gpus.get((h or "").split("_")[0], "h100") if node.gpu else "cpu"
    if node.gpu and nproc > node.gpu:
        print(f"--nproc {nproc}: more processes than the node's {node.gpu} GPU(s)", file=sys.stderr)
        raise SystemExit(2)
    return f"device={device},world_size={nnodes * nproc},ranks_per_host={nproc},host_memory_gib={node.memMB / 1024}"


def command_on_ranks(
    command: str,
    arguments: List[str],
    nnodes: int,
    nproc: int,
    cpu: int,
    gpu: int,
    memMB: int,
    h: Optional[str],
    image: str,
    env: Optional[Dict[str, str]],
    mounts: Optional[List[str]],
    rdzv_port: int,
    pod: Optional[str],
    max_retries: int,
) -> specs.AppDef:
    # ddp starts torchrun from PATH: a free port on one machine, on several a rendezvous at the host the scheduler
    # names rank 0.
    app = ddp(
        command,
        *arguments,
        m="foundrank.dist.cli",
        name=f"foundrank/{command}",
        j=f"{nnodes}x{nproc}",
        cpu=cpu,
        gpu=gpu,
        memMB=memMB,
        h=h,
        image=image,
        # Agents that share their store cannot restart ranks: new ones find addresses of old ones in it.
        env={"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1", **(env or {})},
        mounts=mounts,
        rdzv_port=rdzv_port,
        max_retries=max_retries,
    )
    [role] = app.roles
    role.name = command
    # torchrun hands on only signals that it knows; Slurm's --signal=USR1@SECONDS would end it instead.
    role.args = [*role.args[:-1], role.args[-1].replace("torchrun", f"torchrun --signals_to_handle {_SIGNALS}", 1)]
    app.roles = [laid_over(role, pod)]
    return app
