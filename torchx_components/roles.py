"""Roles that know their scheduler: TorchX tells its name when a job is made, and what does not fit it is refused or told then."""

import os
import sys
from typing import Optional

import torchx
import torchx.specs as specs
from torchx.specs.finder import ComponentValidationException

from foundrank.torchx_components.pods import lay_over

_IMAGE, _POD = "foundrank.image", "foundrank.pod"
_HERE = {"local", "slurm"}
"""Schedulers whose jobs run in the environment they are submitted from; all others start an image."""

_RESTARTING = {"kubernetes", "kubernetes_mcad", "slurm", "docker", "aws_batch", "gcp_batch"}
"""Schedulers that start a failed job again, as often as ``--max_retries`` says; TorchX drops it for all others."""


def scheduled(role: specs.Role, image: Optional[str], pod: Optional[str]) -> specs.Role:
    """The role, which checks what was given when it is told the scheduler's name, with ``--dryrun`` too.

    On Kubernetes its pods have time to meet and to save, and what the JSON file ``pod`` says is laid over them.

    Args:
        image, pod: None where they were not given.

    Raises:
        ComponentValidationException: when the job is made, not yet submitted: no image where one is needed, restarts where there
            are none, or a file that cannot be laid over a pod.
    """
    return _Role(**{**vars(role), "metadata": {**role.metadata, _IMAGE: image, _POD: pod}})


class _Role(specs.Role):
    def pre_proc(self, scheduler: str, dryrun_info: specs.AppDryRunInfo) -> specs.AppDryRunInfo:
        self._check(scheduler)
        if scheduler == "kubernetes":
            lay_over(dryrun_info.request.resource["spec"]["tasks"], self.metadata[_POD])
        if scheduler == "local":  # TorchX puts the working folder before PATH: a file called bash there would run
            for replica in (one for of_role in dryrun_info.request.role_params.values() for one in of_role):
                replica.env["PATH"] = os.environ.get("PATH", os.defpath)
        return dryrun_info

    def _check(self, scheduler: str) -> None:
        image, pod = self.metadata[_IMAGE], self.metadata[_POD]
        if scheduler not in _HERE and image in (None, torchx.IMAGE):
            raise ComponentValidationException(
                f"--image is not given, and jobs on {scheduler} run in one: TorchX would take its own, {torchx.IMAGE}, in which"
                " there is no foundrank. Give --image with yours (docs/how-to/kubernetes.md says how it is built)."
            )
        if scheduler not in _RESTARTING and self.max_retries:
            raise ComponentValidationException(
                f"--max_retries {self.max_retries}: the scheduler {scheduler} starts no job again. Leave it out, and run the same command"
                " again: the job goes on where it was."
            )
        if scheduler in _HERE and image is not None:
            _tell_ignored("--image", image, scheduler, "jobs run in the environment on PATH")
        if scheduler in _HERE and self.mounts:
            _tell_ignored("--mounts", "...", scheduler, "jobs see the folders of their machine")
        if scheduler != "kubernetes" and pod is not None:
            _tell_ignored("--pod", pod, scheduler, "only -s kubernetes lays it over its pods")


def _tell_ignored(option: str, value: str, scheduler: str, why: str) -> None:
    print(f"warning: {option} {value} has no effect on {scheduler}: {why}", file=sys.stderr)
