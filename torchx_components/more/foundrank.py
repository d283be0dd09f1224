"""Further TorchX components, as those in jobs.py.

By file:         torchx run -s local_cwd torchx_components/more/foundrank.py:align --run runs/one --out runs/aligned --reward runs/ranker
Once installed:  torchx run -s slurm foundrank.align --run runs/one --out runs/aligned --reward runs/ranker
"""

from typing import Dict, List, Optional

import torchx.specs as specs

from foundrank.torchx_components.submission import check_first, cluster_of, command_on_ranks


def align(
    run: str, out: str, reward: str, *args: str, nnodes: int = 1, nproc: int = 2, cpu: int = 2, gpu: int = 0, memMB: int = 8192, h: Optional[str] = None,
    image: Optional[str] = None, env: Optional[Dict[str, str]] = None, mounts: Optional[List[str]] = None, rdzv_port: int = 29500, pod: Optional[str] = None, max_retries: int = 0, check: bool = True,
) -> specs.AppDef:  # fmt: skip
    """Fine-tune a run that finds items to prefer those of its candidates that a reward says are better; started again it goes on.

    Args:
        run: the run folder of the generator, on storage that every node sees or an s3:// URI
        out: folder of the aligned run, on storage that every node sees
        reward: a run folder, hits, noise, or a Parquet file of users, items and rewards
        args: further arguments of `foundrank align`, after `--`, e.g. -- --weights click=1,buy=3
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
    arguments = [run, out, "--reward", reward, *args]
    cluster_of(nnodes, nproc, cpu, gpu, memMB, h)  # refuses processes without a GPU
    check_first("align", arguments, check)
    return command_on_ranks("align", arguments, nnodes, nproc, cpu, gpu, memMB, h, image, env, mounts, rdzv_port, pod, max_retries)  # fmt: skip
