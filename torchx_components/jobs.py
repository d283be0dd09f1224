"""TorchX components: each starts one foundrank command as one job, on one machine or many.

By file:         torchx run -s local_cwd torchx_components/jobs.py:train --experiment experiment.yaml --run runs/one
Once installed:  torchx run -s slurm foundrank.train --experiment experiment.yaml --run runs/one --nnodes 4
"""

import subprocess
import sys
from typing import Dict, List, Optional

import torchx
import torchx.specs as specs
from torchx.components.dist import ddp

from foundrank.torchx_components.pods import laid_over

_SIGNALS = "SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1"


def embed(
    experiment: str,
    *args: str,
    nnodes: int = 1,
    nproc: int = 1,
    cpu: int = 2,
    gpu: int = 0,
    memMB: int = 8192,
    h: Optional[str] = None,
    image: str = torchx.IMAGE,
    env: Optional[Dict[str, str]] = None,
    mounts: Optional[List[str]] = None,
    rdzv_port: int = 29500,
    pod: Optional[str] = None,
    max_retries: int = 0,
    check: bool = True,
) -> specs.AppDef:
    """Write the text vectors of every catalog of an experiment; started again it resumes.

    Args:
        experiment: the experiment file, its text store on storage that every node sees
        args: further arguments of `foundrank embed`, after `--`, e.g. -- --rebuild
        nnodes: machines
        nproc: processes per machine, one per GPU where there are GPUs; on CPUs one process uses up to 8 cores
        cpu: CPU cores per machine
        gpu: GPUs per machine
        memMB: memory per machine in MB
        h: a named resource of your TorchX set-up, in place of cpu, gpu and memMB
        image: container image with foundrank installed; Slurm and local_cwd use the environment on PATH instead
        env: environment variables, K=V,K=V
        mounts: volumes of the container, e.g. type=bind,src=/data,dst=/data
        rdzv_port: port of the first machine at which several machines meet; jobs that may share it need different ones
        pod: JSON file laid over each pod on Kubernetes: tolerations, secrets by reference, ...; see docs/kubernetes.md
        max_retries: how often the scheduler starts the job again; it resumes
        check: find out here, before anything is submitted, what would go wrong; False where only the cluster sees the files
    """
    _check("embed", [experiment, *args], check)
    return _job(
        "embed", [experiment, *args], nnodes, nproc, cpu, gpu, memMB, h, image, env, mounts, rdzv_port, pod, max_retries
    )


def train(
    experiment: str,
    run: str,
    *args: str,
    nnodes: int = 1,
    nproc: int = 2,
    cpu: int = 2,
    gpu: int = 0,
    memMB: int = 8192,
    h: Optional[str] = None,
    image: str = torchx.IMAGE,
    env: Optional[Dict[str, str]] = None,
    mounts: Optional[List[str]] = None,
    rdzv_port: int = 29500,
    pod: Optional[str] = None,
    max_retries: int = 0,
    check: bool = True,
) -> specs.AppDef:
    """Train an experiment into a run folder; started again on the same folder it resumes.

    Args:
        experiment: the experiment file
        run: the run folder, on storage that every node sees or an s3:// URI
        args: further arguments of `foundrank train`, after `--`, e.g. -- --set training.epochs=1
        nnodes: machines
        nproc: processes per machine, one per GPU where there are GPUs
        cpu: CPU cores per machine
        gpu: GPUs per machine
        memMB: memory per machine in MB
        h: a named resource of your TorchX set-up, in place of cpu, gpu and memMB
        image: container image with foundrank installed; Slurm and local_cwd use the environment on PATH instead
        env: environment variables, K=V,K=V
        mounts: volumes of the container, e.g. type=bind,src=/data,dst=/data
        rdzv_port: port of the first machine at which several machines meet; jobs that may share it need different ones
        pod: JSON file laid over each pod on Kubernetes: tolerations, secrets by reference, ...; see docs/kubernetes.md
        max_retries: how often the scheduler starts the job again; it resumes
        check: find out here, before anything is submitted, what would go wrong; False where only the cluster sees the files
    """
    # Not --run: torchrun would take that, even after the module, for a short form of its own --run-path.
    arguments = [experiment, "--run-dir", run, *args]
    node = specs.resource(cpu=cpu, gpu=gpu, memMB=memMB, h=h)
    _check("train", [*arguments, "--cluster", _cluster(nnodes, nproc, node, h)], check)
    return _job("train", arguments, nnodes, nproc, cpu, gpu, memMB, h, image, env, mounts, rdzv_port, pod, max_retries)


def evaluate(
    run: str,
    *args: str,
    nnodes: int = 1,
    nproc: int = 2,
    cpu: int = 2,
    gpu: int = 0,
    memMB: int = 8192,
    h: Optional[str] = None,
    image: str = torchx.IMAGE,
    env: Optional[Dict[str, str]] = None,
    mounts: Optional[List[str]] = None,
    rdzv_port: int = 29500,
    pod: Optional[str] = None,
    max_retries: int = 0,
    check: bool = True,
) -> specs.AppDef:
    """Evaluate a run per domain, task and slice.

    Args:
        run: the run folder, on storage that every node sees or an s3:// URI
        args: further arguments of `foundrank evaluate`, after `--`, e.g. -- --split validation
        nnodes: machines
        nproc: processes per machine, one per GPU where there are GPUs
        cpu: CPU cores per machine
        gpu: GPUs per machine
        memMB: memory per machine in MB
        h: a named resource of your TorchX set-up, in place of cpu, gpu and memMB
        image: container image with foundrank installed; Slurm and local_cwd use the environment on PATH instead
        env: environment variables, K=V,K=V
        mounts: volumes of the container, e.g. type=bind,src=/data,dst=/data
        rdzv_port: port of the first machine at which several machines meet; jobs that may share it need different ones
        pod: JSON file laid over each pod on Kubernetes: tolerations, secrets by reference, ...; see docs/kubernetes.md
        max_retries: how often the scheduler starts the job again
        check: find out here, before anything is submitted, what would go wrong; False where only the cluster sees the files
    """
    _check("evaluate", [run, *args], check)
    return _job(
        "evaluate", [run, *args], nnodes, nproc, cpu, gpu, memMB, h, image, env, mounts, rdzv_port, pod, max_retries
    )


def score(
    run: str,
    input: str,
    output: str,
    *args: str,
    nnodes: int = 1,
    nproc: int = 2,
    cpu: int = 2,
    gpu: int = 0,
    memMB: int = 8192,
    h: Optional[str] = None,
    image: str = torchx.IMAGE,
    env: Optional[Dict[str, str]] = None,
    mounts: Optional[List[str]] = None,
    rdzv_port: int = 29500,
    pod: Optional[str] = None,
    max_retries: int = 0,
    check: bool = True,
) -> specs.AppDef:
    """Score Parquet files with a run; started again on the same output it resumes.

    Args:
        run: the run folder, on storage that every node sees or an s3:// URI
        input: Parquet file, folder or glob to score
        output: folder for the scores, on storage that every node sees or an s3:// URI
        args: further arguments of `foundrank score`, after `--`, e.g. -- --domain shop
        nnodes: machines
        nproc: processes per machine, one per GPU where there are GPUs
        cpu: CPU cores per machine
        gpu: GPUs per machine
        memMB: memory per machine in MB
        h: a named resource of your TorchX set-up, in place of cpu, gpu and memMB
        image: container image with foundrank installed; Slurm and local_cwd use the environment on PATH instead
        env: environment variables, K=V,K=V
        mounts: volumes of the container, e.g. type=bind,src=/data,dst=/data
        rdzv_port: port of the first machine at which several machines meet; jobs that may share it need different ones
        pod: JSON file laid over each pod on Kubernetes: tolerations, secrets by reference, ...; see docs/kubernetes.md
        max_retries: how often the scheduler starts the job again; it resumes
        check: find out here, before anything is submitted, what would go wrong; False where only the cluster sees the files
    """
    arguments = [run, input, output, *args]
    _check("score", arguments, check)
    return _job("score", arguments, nnodes, nproc, cpu, gpu, memMB, h, image, env, mounts, rdzv_port, pod, max_retries)


def study(
    out: str,
    data: str,
    *args: str,
    cpu: int = 2,
    memMB: int = 8192,
    h: Optional[str] = None,
    image: str = torchx.IMAGE,
    env: Optional[Dict[str, str]] = None,
    mounts: Optional[List[str]] = None,
    pod: Optional[str] = None,
    max_retries: int = 0,
) -> specs.AppDef:
    """Run the cold-start study on one machine; started again on the same folder it goes on.

    Args:
        out: folder for its data and runs
        data: folder with the public data sets' folders
        args: further arguments of `foundrank study`, after `--`, e.g. -- --only movietweetings
        cpu: CPU cores
        memMB: memory in MB
        h: a named resource of your TorchX set-up, in place of cpu and memMB
        image: container image with foundrank installed; Slurm and local_cwd use the environment on PATH instead
        env: environment variables, K=V,K=V
        mounts: volumes of the container, e.g. type=bind,src=/data,dst=/data
        pod: JSON file laid over each pod on Kubernetes: tolerations, secrets by reference, ...; see docs/kubernetes.md
        max_retries: how often the scheduler starts the job again; it goes on
    """
    role = specs.Role(
        name="study",
        image=image,
        entrypoint="foundrank",  # no torchrun: it starts processes of its own, each a training by itself
        args=["study", out, "--data", data, *args],
        env=env or {},
        mounts=specs.parse_mounts(mounts) if mounts else [],
        resource=specs.resource(cpu=cpu, memMB=memMB, h=h),
        max_retries=max_retries,
    )
    return specs.AppDef(name="foundrank-study", roles=[laid_over(role, pod)])


def _check(command: str, arguments: List[str], wanted: bool) -> None:
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


def _cluster(nnodes: int, nproc: int, node: specs.Resource, h: Optional[str]) -> str:
    """What `foundrank train --check` is told of the nodes. A GPU is what the named resource begins with, else an h100."""
    gpus = {"a100": "a100-80", "h100": "h100", "h200": "h200"}
    device = gpus.get((h or "").split("_")[0], "h100") if node.gpu else "cpu"
    if node.gpu and nproc > node.gpu:
        print(f"--nproc {nproc}: more processes than the node's {node.gpu} GPU(s)", file=sys.stderr)
        raise SystemExit(2)
    return f"device={device},world_size={nnodes * nproc},ranks_per_host={nproc},host_memory_gib={node.memMB / 1024}"


def _job(
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
