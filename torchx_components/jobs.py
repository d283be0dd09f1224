"""TorchX components: each starts one foundrank command as one job, on one machine or many.

By file:         torchx run -s local_cwd torchx_components/jobs.py:train --experiment experiment.yaml --run runs/one
Once installed:  torchx run -s slurm foundrank.train --experiment experiment.yaml --run runs/one --nnodes 4
"""

from typing import Dict, List, Optional

import torchx
import torchx.specs as specs
from torchx.components.dist import ddp


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
    max_retries: int = 0,
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
        max_retries: how often the scheduler starts the job again; it resumes
    """
    return _job("embed", [experiment, *args], nnodes, nproc, cpu, gpu, memMB, h, image, env, mounts, max_retries)


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
    max_retries: int = 0,
) -> specs.AppDef:
    """Train an experiment into a run folder; started again on the same folder it resumes.

    Args:
        experiment: the experiment file
        run: the run folder, on storage that every node sees
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
        max_retries: how often the scheduler starts the job again; it resumes
    """
    # Not --run: torchrun would take that, even after the module, for a short form of its own --run-path.
    arguments = [experiment, "--run-dir", run, *args]
    return _job("train", arguments, nnodes, nproc, cpu, gpu, memMB, h, image, env, mounts, max_retries)


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
    max_retries: int = 0,
) -> specs.AppDef:
    """Evaluate a run per domain, task and slice.

    Args:
        run: the run folder, on storage that every node sees
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
        max_retries: how often the scheduler starts the job again
    """
    return _job("evaluate", [run, *args], nnodes, nproc, cpu, gpu, memMB, h, image, env, mounts, max_retries)


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
    max_retries: int = 0,
) -> specs.AppDef:
    """Score Parquet files with a run; started again on the same output it resumes.

    Args:
        run: the run folder, on storage that every node sees
        input: Parquet file, folder or glob to score
        output: folder for the scores, on storage that every node sees
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
        max_retries: how often the scheduler starts the job again; it resumes
    """
    arguments = [run, input, output, *args]
    return _job("score", arguments, nnodes, nproc, cpu, gpu, memMB, h, image, env, mounts, max_retries)


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
        max_retries=max_retries,
    )
    app.roles[0].name = command
    return app
