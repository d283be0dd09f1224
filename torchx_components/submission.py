"""How a foundrank command becomes a TorchX job: checked here first, then ranks of one machine, or torchrun on each of several."""

import shlex
import subprocess
import sys
from typing import Dict, List, Optional

import torchx
import torchx.specs as specs
from torchx.components.dist import ddp

from foundrank.torchx_components.roles import scheduled

_SAFE = {"PYTHONSAFEPATH": "1"}  # Python takes no module from the folder in which the job starts
_SIGNALS = "SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1"


def check_first(command: str, arguments: List[str], wanted: bool) -> None:
    """Runs the command with --check; ends this program if it finds something, which the command has told by then."""
    if (
        wanted
        and subprocess.run(
            [sys.executable, "-P", "-m", "foundrank.dist.cli", command, *arguments, "--check"]
        ).returncode
    ):
        print(
            "nothing was submitted; where only the cluster sees these files, add --check False",
            file=sys.stderr,
        )
        raise SystemExit(2)


def literal(argument: str) -> str:
    """An argument of a job that arrives as it is given, though TorchX takes ``$`` for the beginning of a macro of its own."""
    return argument.replace("$", "$$")


def _word(argument: str) -> str:
    """The same as a word of a shell's line. On Slurm TorchX puts the job's number for ``${app_id}``, escaped or not."""
    return literal(shlex.quote(argument).replace("${app_id}", "$''{app_id}"))


def cluster_of(nnodes: int, nproc: int, cpu: int, gpu: int, memMB: int, h: Optional[str]) -> str:
    """What `--check` is told of the nodes. A GPU is what the named resource begins with, else an h100."""
    node = specs.resource(cpu=cpu, gpu=gpu, memMB=memMB, h=h)
    gpus = {"a100": "a100-80", "h100": "h100", "h200": "h200"}
    device = gpus.get((h or "").split("_")[0], "h100") if node.gpu else "cpu"
    if node.gpu and nproc > node.gpu:
        print(f"--nproc {nproc}: more processes than the node's {node.gpu} GPU(s)", file=sys.stderr)
        raise SystemExit(2)
    return f"device={device},world_size={nnodes * nproc},ranks_per_host={nproc},host_memory_gib={node.memMB / 1024}"


def command_alone(
    command: str,
    arguments: List[str],
    nnodes: int,
    cpu: int,
    gpu: int,
    memMB: int,
    h: Optional[str],
    image: Optional[str],
    env: Optional[Dict[str, str]],
    mounts: Optional[List[str]],
    pod: Optional[str],
    max_retries: int,
) -> specs.AppDef:
    """A command that starts trainings of its own: no torchrun, and on each machine one process by itself."""
    role = specs.Role(
        name=command,
        image=image or torchx.IMAGE,
        entrypoint="foundrank",
        args=[literal(one) for one in (command, *arguments)],
        env={name: literal(value) for name, value in (env or {}).items()},
        mounts=specs.parse_mounts(mounts) if mounts else [],
        resource=specs.resource(cpu=cpu, gpu=gpu, memMB=memMB, h=h),
        num_replicas=nnodes,
        max_retries=max_retries,
    )
    return specs.AppDef(name=f"foundrank-{command}", roles=[scheduled(role, image, pod)])


def command_on_ranks(
    command: str,
    arguments: List[str],
    nnodes: int,
    nproc: int,
    cpu: int,
    gpu: int,
    memMB: int,
    h: Optional[str],
    image: Optional[str],
    env: Optional[Dict[str, str]],
    mounts: Optional[List[str]],
    rdzv_port: int,
    pod: Optional[str],
    max_retries: int,
) -> specs.AppDef:
    words = " ".join(_word(one) for one in arguments)
    env = {**_SAFE, **{name: literal(value) for name, value in (env or {}).items()}}
    if nnodes == 1:
        # No torchrun: its key-value store listens on all interfaces, and the ranks of one machine need none.
        role = specs.Role(
            name=command,
            image=image or torchx.IMAGE,
            entrypoint="bash",
            args=["-c", f"exec foundrank {command} --processes {nproc} {words}"],
            env=env,
            mounts=specs.parse_mounts(mounts) if mounts else [],
            resource=specs.resource(cpu=cpu, gpu=gpu, memMB=memMB, h=h),
            max_retries=max_retries,
        )
        return specs.AppDef(name=command, roles=[scheduled(role, image, pod)])
    # ddp starts torchrun from PATH, and has the nodes meet at the host that the scheduler names rank 0.
    app = ddp(
        m="foundrank.dist.cli",
        name=f"foundrank/{command}",
        j=f"{nnodes}x{nproc}",
        cpu=cpu,
        gpu=gpu,
        memMB=memMB,
        h=h,
        image=image or torchx.IMAGE,
        # Agents that share their store cannot restart ranks: new ones find addresses of old ones in it.
        # The level is that of C++, which else tells of hosts without a name and of connections that end with the job.
        env={"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1", "TORCH_CPP_LOG_LEVEL": "ERROR", **env},
        mounts=mounts,
        rdzv_port=rdzv_port,
        max_retries=max_retries,
    )
    [role] = app.roles
    role.name = command
    # torchrun hands on only signals that it knows; Slurm's --signal=USR1@SECONDS would end it instead.
    launcher = role.args[-1].replace("torchrun", f"torchrun --signals_to_handle {_SIGNALS}", 1)
    # torchrun would copy what ranks say into files on each node, and put the rank before each line, of JSON too.
    role.args = [*role.args[:-1], f"{launcher.replace(' --tee 3', '', 1)} {command} {words}"]
    app.roles = [scheduled(role, image, pod)]
    return app
