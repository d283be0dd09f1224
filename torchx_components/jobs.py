"""TorchX components: each starts one foundrank command as one job, on one machine or many.

By file:         torchx run -s local_cwd torchx_components/jobs.py:train --experiment experiment.yaml --run runs/one
Once installed:  torchx run -s slurm foundrank.train --experiment experiment.yaml --run runs/one --nnodes 4
"""

from typing import Dict, List, Optional

import torchx.specs as specs

from foundrank.torchx_components.submission import check_first, cluster_of, command_alone, command_on_ranks


def embed(
    experiment: str, *args: str, nnodes: int = 1, nproc: int = 1, cpu: int = 2, gpu: int = 0, memMB: int = 8192, h: Optional[str] = None, image: Optional[str] = None,
    env: Optional[Dict[str, str]] = None, mounts: Optional[List[str]] = None, rdzv_port: int = 29500, pod: Optional[str] = None, max_retries: int = 0, check: bool = True,
) -> specs.AppDef:  # fmt: skip
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
        image: container image with foundrank installed; Slurm and local_cwd use the environment on PATH, all others need it
        env: environment variables, K=V,K=V
        mounts: volumes of the container, e.g. type=bind,src=/data,dst=/data
        rdzv_port: port of the first machine at which several machines meet; jobs that may share it need different ones
        pod: JSON file laid over each pod on Kubernetes: tolerations, secrets by reference, ...; see docs/how-to/kubernetes.md
        max_retries: how often the scheduler starts the job again, where it can (not local_cwd); it resumes
        check: find out here, before anything is submitted, what would go wrong; False where only the cluster sees the files
    """
    check_first("embed", [experiment, *args], check)
    return command_on_ranks("embed", [experiment, *args], nnodes, nproc, cpu, gpu, memMB, h, image, env, mounts, rdzv_port, pod, max_retries)  # fmt: skip


def tokenize(
    experiment: str, *args: str, nnodes: int = 1, nproc: int = 1, cpu: int = 2, gpu: int = 0, memMB: int = 8192, h: Optional[str] = None, image: Optional[str] = None,
    env: Optional[Dict[str, str]] = None, mounts: Optional[List[str]] = None, rdzv_port: int = 29500, pod: Optional[str] = None, max_retries: int = 0, check: bool = True,
) -> specs.AppDef:  # fmt: skip
    """Give every item of an experiment's catalog its codes, semantic ids; started again it goes on.

    Args:
        experiment: the experiment file, its text.store on storage that every node sees
        args: further arguments of `foundrank tokenize`, after `--`, e.g. -- --export codes.parquet
        nnodes: machines
        nproc: processes per machine; each uses one core and no GPU, but for the vectors of a run
        cpu: CPU cores per machine
        gpu: GPUs per machine
        memMB: memory per machine in MB
        h: a named resource of your TorchX set-up, in place of cpu, gpu and memMB
        image: container image with foundrank installed; Slurm and local_cwd use the environment on PATH, all others need it
        env: environment variables, K=V,K=V
        mounts: volumes of the container, e.g. type=bind,src=/data,dst=/data
        rdzv_port: port of the first machine at which several machines meet; jobs that may share it need different ones
        pod: JSON file laid over each pod on Kubernetes: tolerations, secrets by reference, ...; see docs/how-to/kubernetes.md
        max_retries: how often the scheduler starts the job again, where it can (not local_cwd); it goes on
        check: find out here, before anything is submitted, what would go wrong; False where only the cluster sees the files
    """
    check_first("tokenize", [experiment, *args], check)
    return command_on_ranks("tokenize", [experiment, *args], nnodes, nproc, cpu, gpu, memMB, h, image, env, mounts, rdzv_port, pod, max_retries)  # fmt: skip


def count(
    experiment: str, counts: str, *args: str, nnodes: int = 1, nproc: int = 2, cpu: int = 2, gpu: int = 0, memMB: int = 8192, h: Optional[str] = None,
    image: Optional[str] = None, env: Optional[Dict[str, str]] = None, mounts: Optional[List[str]] = None, rdzv_port: int = 29500, pod: Optional[str] = None, max_retries: int = 0, check: bool = True,
) -> specs.AppDef:  # fmt: skip
    """Count the training events for trainings that are given the folder with --counts; started again it goes on.

    Args:
        experiment: the experiment file
        counts: folder for what is counted, on storage that every node sees
        args: further arguments of `foundrank count`, after `--`, e.g. -- --set only=[shop]
        nnodes: machines
        nproc: processes per machine, one per GPU where there are GPUs
        cpu: CPU cores per machine
        gpu: GPUs per machine
        memMB: memory per machine in MB
        h: a named resource of your TorchX set-up, in place of cpu, gpu and memMB
        image: container image with foundrank installed; Slurm and local_cwd use the environment on PATH, all others need it
        env: environment variables, K=V,K=V
        mounts: volumes of the container, e.g. type=bind,src=/data,dst=/data
        rdzv_port: port of the first machine at which several machines meet; jobs that may share it need different ones
        pod: JSON file laid over each pod on Kubernetes: tolerations, secrets by reference, ...; see docs/how-to/kubernetes.md
        max_retries: how often the scheduler starts the job again, where it can (not local_cwd); it goes on
        check: find out here, before anything is submitted, what would go wrong; False where only the cluster sees the files
    """
    arguments = [experiment, counts, *args]
    cluster_of(nnodes, nproc, cpu, gpu, memMB, h)  # refuses processes without a GPU
    check_first("count", arguments, check)
    return command_on_ranks("count", arguments, nnodes, nproc, cpu, gpu, memMB, h, image, env, mounts, rdzv_port, pod, max_retries)  # fmt: skip


def train(
    experiment: str, run: str, *args: str, nnodes: int = 1, nproc: int = 2, cpu: int = 2, gpu: int = 0, memMB: int = 8192, h: Optional[str] = None,
    image: Optional[str] = None, env: Optional[Dict[str, str]] = None, mounts: Optional[List[str]] = None, rdzv_port: int = 29500, pod: Optional[str] = None, max_retries: int = 0, check: bool = True,
) -> specs.AppDef:  # fmt: skip
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
        image: container image with foundrank installed; Slurm and local_cwd use the environment on PATH, all others need it
        env: environment variables, K=V,K=V
        mounts: volumes of the container, e.g. type=bind,src=/data,dst=/data
        rdzv_port: port of the first machine at which several machines meet; jobs that may share it need different ones
        pod: JSON file laid over each pod on Kubernetes: tolerations, secrets by reference, ...; see docs/how-to/kubernetes.md
        max_retries: how often the scheduler starts the job again, where it can (not local_cwd); it resumes
        check: find out here, before anything is submitted, what would go wrong; False where only the cluster sees the files
    """
    # Not --run: torchrun would take that, even after the module, for a short form of its own --run-path.
    arguments = [experiment, "--run-dir", run, *args]
    check_first("train", [*arguments, "--cluster", cluster_of(nnodes, nproc, cpu, gpu, memMB, h)], check)
    return command_on_ranks("train", arguments, nnodes, nproc, cpu, gpu, memMB, h, image, env, mounts, rdzv_port, pod, max_retries)  # fmt: skip


def update(
    run: str, events: str, *args: str, nnodes: int = 1, nproc: int = 2, cpu: int = 2, gpu: int = 0, memMB: int = 8192, h: Optional[str] = None,
    image: Optional[str] = None, env: Optional[Dict[str, str]] = None, mounts: Optional[List[str]] = None, rdzv_port: int = 29500, pod: Optional[str] = None, max_retries: int = 0, check: bool = True,
) -> specs.AppDef:  # fmt: skip
    """Go on with a run from new events, day after day; started again it goes on.

    Args:
        run: the run folder, on storage that every node sees or an s3:// URI
        events: pattern of its events, e.g. /data/events/day=*/*.parquet; days that it has learned from are left out
        args: further arguments of `foundrank update`, after `--`, e.g. -- --max-drop 0.01
        nnodes: machines
        nproc: processes per machine, one per GPU where there are GPUs
        cpu: CPU cores per machine
        gpu: GPUs per machine
        memMB: memory per machine in MB
        h: a named resource of your TorchX set-up, in place of cpu, gpu and memMB
        image: container image with foundrank installed; Slurm and local_cwd use the environment on PATH, all others need it
        env: environment variables, K=V,K=V
        mounts: volumes of the container, e.g. type=bind,src=/data,dst=/data
        rdzv_port: port of the first machine at which several machines meet; jobs that may share it need different ones
        pod: JSON file laid over each pod on Kubernetes: tolerations, secrets by reference, ...; see docs/how-to/kubernetes.md
        max_retries: how often the scheduler starts the job again, where it can (not local_cwd); it goes on
        check: find out here, before anything is submitted, what would go wrong; False where only the cluster sees the files
    """
    arguments = [run, "--events", events, *args]
    cluster_of(nnodes, nproc, cpu, gpu, memMB, h)  # refuses processes without a GPU
    check_first("update", arguments, check)
    return command_on_ranks("update", arguments, nnodes, nproc, cpu, gpu, memMB, h, image, env, mounts, rdzv_port, pod, max_retries)  # fmt: skip


def evaluate(
    run: str, *args: str, nnodes: int = 1, nproc: int = 2, cpu: int = 2, gpu: int = 0, memMB: int = 8192, h: Optional[str] = None, image: Optional[str] = None,
    env: Optional[Dict[str, str]] = None, mounts: Optional[List[str]] = None, rdzv_port: int = 29500, pod: Optional[str] = None, max_retries: int = 0, check: bool = True,
) -> specs.AppDef:  # fmt: skip
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
        image: container image with foundrank installed; Slurm and local_cwd use the environment on PATH, all others need it
        env: environment variables, K=V,K=V
        mounts: volumes of the container, e.g. type=bind,src=/data,dst=/data
        rdzv_port: port of the first machine at which several machines meet; jobs that may share it need different ones
        pod: JSON file laid over each pod on Kubernetes: tolerations, secrets by reference, ...; see docs/how-to/kubernetes.md
        max_retries: how often the scheduler starts the job again, where it can (not local_cwd)
        check: find out here, before anything is submitted, what would go wrong; False where only the cluster sees the files
    """
    check_first("evaluate", [run, *args, "--cluster", cluster_of(nnodes, nproc, cpu, gpu, memMB, h)], check)
    return command_on_ranks("evaluate", [run, *args], nnodes, nproc, cpu, gpu, memMB, h, image, env, mounts, rdzv_port, pod, max_retries)  # fmt: skip


def compare(
    base: str, other: str, *args: str, nnodes: int = 1, nproc: int = 2, cpu: int = 2, gpu: int = 0, memMB: int = 8192, h: Optional[str] = None,
    image: Optional[str] = None, env: Optional[Dict[str, str]] = None, mounts: Optional[List[str]] = None, rdzv_port: int = 29500, pod: Optional[str] = None, max_retries: int = 0, check: bool = True,
) -> specs.AppDef:  # fmt: skip
    """Compare runs on the same rows; started again it keeps the predictions that are there.

    Args:
        base: the run that others are compared with, or an arm of several as NAME=RUN,RUN; on storage that every node sees
        other: a run or an arm to compare with it
        args: further runs and arguments of `foundrank compare`, after `--`, e.g. -- runs/c --out difference.json
        nnodes: machines
        nproc: processes per machine, one per GPU where there are GPUs
        cpu: CPU cores per machine
        gpu: GPUs per machine
        memMB: memory per machine in MB
        h: a named resource of your TorchX set-up, in place of cpu, gpu and memMB
        image: container image with foundrank installed; Slurm and local_cwd use the environment on PATH, all others need it
        env: environment variables, K=V,K=V
        mounts: volumes of the container, e.g. type=bind,src=/data,dst=/data
        rdzv_port: port of the first machine at which several machines meet; jobs that may share it need different ones
        pod: JSON file laid over each pod on Kubernetes: tolerations, secrets by reference, ...; see docs/how-to/kubernetes.md
        max_retries: how often the scheduler starts the job again, where it can (not local_cwd)
        check: find out here, before anything is submitted, what would go wrong; False where only the cluster sees the files
    """
    runs = [base, other, *args]
    cluster_of(nnodes, nproc, cpu, gpu, memMB, h)  # refuses processes without a GPU
    check_first("compare", runs, check)
    return command_on_ranks("compare", runs, nnodes, nproc, cpu, gpu, memMB, h, image, env, mounts, rdzv_port, pod, max_retries)  # fmt: skip


def score(
    run: str, input: str, output: str, *args: str, nnodes: int = 1, nproc: int = 2, cpu: int = 2, gpu: int = 0, memMB: int = 8192, h: Optional[str] = None,
    image: Optional[str] = None, env: Optional[Dict[str, str]] = None, mounts: Optional[List[str]] = None, rdzv_port: int = 29500, pod: Optional[str] = None, max_retries: int = 0, check: bool = True,
) -> specs.AppDef:  # fmt: skip
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
        image: container image with foundrank installed; Slurm and local_cwd use the environment on PATH, all others need it
        env: environment variables, K=V,K=V
        mounts: volumes of the container, e.g. type=bind,src=/data,dst=/data
        rdzv_port: port of the first machine at which several machines meet; jobs that may share it need different ones
        pod: JSON file laid over each pod on Kubernetes: tolerations, secrets by reference, ...; see docs/how-to/kubernetes.md
        max_retries: how often the scheduler starts the job again, where it can (not local_cwd); it resumes
        check: find out here, before anything is submitted, what would go wrong; False where only the cluster sees the files
    """
    arguments = [run, input, output, *args]
    check_first("score", [*arguments, "--cluster", cluster_of(nnodes, nproc, cpu, gpu, memMB, h)], check)
    return command_on_ranks("score", arguments, nnodes, nproc, cpu, gpu, memMB, h, image, env, mounts, rdzv_port, pod, max_retries)  # fmt: skip


def recommend(
    run: str, users: str, output: str, *args: str, nnodes: int = 1, nproc: int = 2, cpu: int = 2, gpu: int = 0, memMB: int = 8192, h: Optional[str] = None,
    image: Optional[str] = None, env: Optional[Dict[str, str]] = None, mounts: Optional[List[str]] = None, rdzv_port: int = 29500, pod: Optional[str] = None, max_retries: int = 0, check: bool = True,
) -> specs.AppDef:  # fmt: skip
    """Write the items that suit each user best of all there are; started again on the same output it resumes.

    Args:
        run: the run folder, on storage that every node sees or an s3:// URI
        users: Parquet file, folder or glob with the users' ids and histories
        output: folder for the recommendations, on storage that every node sees or an s3:// URI
        args: further arguments of `foundrank recommend`, after `--`, e.g. -- --k 50
        nnodes: machines
        nproc: processes per machine, one per GPU where there are GPUs
        cpu: CPU cores per machine
        gpu: GPUs per machine
        memMB: memory per machine in MB
        h: a named resource of your TorchX set-up, in place of cpu, gpu and memMB
        image: container image with foundrank installed; Slurm and local_cwd use the environment on PATH, all others need it
        env: environment variables, K=V,K=V
        mounts: volumes of the container, e.g. type=bind,src=/data,dst=/data
        rdzv_port: port of the first machine at which several machines meet; jobs that may share it need different ones
        pod: JSON file laid over each pod on Kubernetes: tolerations, secrets by reference, ...; see docs/how-to/kubernetes.md
        max_retries: how often the scheduler starts the job again, where it can (not local_cwd); it resumes
        check: find out here, before anything is submitted, what would go wrong; False where only the cluster sees the files
    """
    arguments = [run, users, output, *args]
    check_first("recommend", [*arguments, "--cluster", cluster_of(nnodes, nproc, cpu, gpu, memMB, h)], check)
    return command_on_ranks("recommend", arguments, nnodes, nproc, cpu, gpu, memMB, h, image, env, mounts, rdzv_port, pod, max_retries)  # fmt: skip


def study(
    out: str, data: str, *args: str, cpu: int = 2, memMB: int = 8192, h: Optional[str] = None, image: Optional[str] = None, env: Optional[Dict[str, str]] = None,
    mounts: Optional[List[str]] = None, pod: Optional[str] = None, max_retries: int = 0,
) -> specs.AppDef:  # fmt: skip
    """Run the cold-start study on one machine; started again on the same folder it goes on.

    Args:
        out: folder for its data and runs
        data: folder with the public data sets' folders
        args: further arguments of `foundrank study`, after `--`, e.g. -- --only movietweetings
        cpu: CPU cores
        memMB: memory in MB
        h: a named resource of your TorchX set-up, in place of cpu and memMB
        image: container image with foundrank installed; Slurm and local_cwd use the environment on PATH, all others need it
        env: environment variables, K=V,K=V
        mounts: volumes of the container, e.g. type=bind,src=/data,dst=/data
        pod: JSON file laid over each pod on Kubernetes: tolerations, secrets by reference, ...; see docs/how-to/kubernetes.md
        max_retries: how often the scheduler starts the job again, where it can (not local_cwd); it goes on
    """
    return command_alone("study", [out, "--data", data, *args], 1, cpu, 0, memMB, h, image, env, mounts, pod, max_retries)  # fmt: skip


def tune(
    experiment: str, out: str, *args: str, nnodes: int = 1, cpu: int = 2, gpu: int = 0, memMB: int = 8192, h: Optional[str] = None, image: Optional[str] = None,
    env: Optional[Dict[str, str]] = None, mounts: Optional[List[str]] = None, pod: Optional[str] = None, max_retries: int = 0,
) -> specs.AppDef:  # fmt: skip
    """Find better settings of an experiment, on one machine or several that share the trials; started again it goes on.

    Args:
        experiment: the experiment file
        out: folder of the trials, on storage that every node sees
        args: further arguments of `foundrank tune`, after `--`, e.g. -- --trials 80 --parallel 4
        nnodes: machines, each of which works on trials of its own
        cpu: CPU cores per machine
        gpu: GPUs per machine
        memMB: memory per machine in MB
        h: a named resource of your TorchX set-up, in place of cpu, gpu and memMB
        image: container image with foundrank installed; Slurm and local_cwd use the environment on PATH, all others need it
        env: environment variables, K=V,K=V
        mounts: volumes of the container, e.g. type=bind,src=/data,dst=/data
        pod: JSON file laid over each pod on Kubernetes: tolerations, secrets by reference, ...; see docs/how-to/kubernetes.md
        max_retries: how often the scheduler starts the job again, where it can (not local_cwd); it goes on
    """
    return command_alone("tune", [experiment, out, *args], nnodes, cpu, gpu, memMB, h, image, env, mounts, pod, max_retries)  # fmt: skip
