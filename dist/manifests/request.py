"""What a manifest is asked for: checked here, for a cluster would refuse it much later, or accept it and lose the work."""

import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ...data.errors import UserError
from ...data.storage.file_systems import is_uri
from .cron import check_schedule

Kind = Literal["job", "cronjob", "pytorchjob", "volcano"]

NAME_LENGTH = 45
"""The longest name: Kubernetes adds a time to a CronJob's and a number to each pod's, and a host name has room for 63."""

OWN_FOLDERS = ("/tmp", "/dev/shm", "/cache")
"""Folders of a pod that are not its image's."""

_LABEL = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")  # of RFC 1035, which a Service's name has to be
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")  # of most other objects
_IMAGE = re.compile(
    r"[a-zA-Z0-9][\w.-]*(:\d+)?(/[a-z0-9][\w.-]*)*(:[\w][\w.-]{0,127})?(@sha256:[0-9a-f]{64})?", re.ASCII
)
_MEMORY = re.compile(r"[1-9]\d*(\.\d+)?(Mi|Gi|Ti|M|G|T)")


@dataclass(frozen=True)
class Request:
    """A command on a cluster, and what each of its pods gets.

    Args:
        command: of foundrank.
        arguments: of the command, without the number of processes.
        kind: of the object.
        name: of all objects; a DNS label.
        image: with foundrank.
        pods: how many together do the command's work, one rank each where there are several.
        processes: ranks in the pod, where there is one.
        cpu, gpu: of each pod.
        memory: of each pod, as Kubernetes writes it.
        volumes: folder in the pod -> PersistentVolumeClaim.
        cache: claim for what can be made again; None for room that is gone with the pod.
        secrets: whose keys become environment variables.
        retries: how often the job is started again after a fault.
        namespace, service_account: None for kubectl's, and for an account of its own.
        schedule: of a CronJob.
    """

    command: str
    arguments: tuple[str, ...]
    kind: Kind
    name: str
    image: str
    pods: int
    processes: int
    cpu: int
    gpu: int
    memory: str
    volumes: dict[str, str]
    cache: str | None
    secrets: tuple[str, ...]
    retries: int
    namespace: str | None
    service_account: str | None
    schedule: str | None


def check_request(request: Request) -> None:
    """Makes sure that a cluster can do what is asked for.

    Raises:
        UserError: a name, quantity or schedule that Kubernetes refuses, or numbers that do not go together.
    """
    if len(request.name) > NAME_LENGTH or not _LABEL.fullmatch(request.name):
        raise UserError(
            f"--name '{request.name}'",
            "is no name for a job",
            f"Use up to {NAME_LENGTH} lower-case letters, digits and '-', beginning with a letter and not ending with '-'.",
        )
    names = {
        "--namespace": [request.namespace],
        "--service-account": [request.service_account],
        "--secret": request.secrets,
        "--cache": [request.cache],
        "--volume": request.volumes.values(),
    }
    for option, given in names.items():
        for name in given:
            if name is not None and (len(name) > 253 or not _NAME.fullmatch(name)):
                raise UserError(
                    f"{option} '{name}'",
                    "is no name of a Kubernetes object",
                    "Use lower-case letters, digits, '-' and '.'. A secret is given by its name, never by its value.",
                )
    if not _IMAGE.fullmatch(request.image):
        raise UserError(f"--image '{request.image}'", "is no image", "Write e.g. registry.example/foundrank:cpu.")
    if not _MEMORY.fullmatch(request.memory):
        raise UserError(
            f"--memory '{request.memory}'",
            "is no quantity",
            "Write a number and one of Mi, Gi, Ti, M, G, T, e.g. 16Gi.",
        )
    _check_ranks(request)
    if (request.kind == "cronjob") != (request.schedule is not None):
        raise UserError(
            "--schedule",
            "is needed for a CronJob" if request.schedule is None else f"has no meaning for --kind {request.kind}",
            "Give both --kind cronjob and --schedule, e.g. '30 3 * * *', or neither.",
        )
    if request.schedule is not None:
        check_schedule(request.schedule)


def _check_ranks(request: Request) -> None:
    alone = request.pods == 1 and request.kind != "pytorchjob"
    if not alone and (request.processes > 1 or request.gpu > 1):
        option = f"-p {request.processes}" if request.processes > 1 else f"--gpu {request.gpu}"
        raise UserError(
            option,
            "is for a job of one pod: in a PyTorchJob, and where there are several pods, each is one rank with at most one GPU",
            "Give as many --pods as there shall be ranks, or leave --pods out, or use TorchX (docs/how-to/kubernetes.md).",
        )
    if request.gpu and request.processes > request.gpu:
        raise UserError(
            f"-p {request.processes}", f"is more than the pod's {request.gpu} GPU(s)", "Give each process a GPU."
        )


def volumes_of(given: Sequence[str]) -> dict[str, str]:
    """Folder in the pod -> claim, of options ``CLAIM=/FOLDER``.

    Raises:
        UserError: one is not of that form, or two have the same folder.
    """
    volumes: dict[str, str] = {}
    for one in given:
        claim, _, folder = one.partition("=")
        if not claim or not folder.startswith("/") or posixpath.normpath(folder) != folder or ":" in folder:
            raise UserError(f"--volume '{one}'", "is not CLAIM=/FOLDER", "Write e.g. --volume shop-data=/data.")
        if folder in volumes or folder == "/" or any(_within(folder, own) for own in (*OWN_FOLDERS, "/proc", "/sys")):
            raise UserError(f"--volume '{one}'", f"{folder} is taken in the pod", "Choose another folder, e.g. /data.")
        volumes[folder] = claim
    return volumes


def check_place(what: str, location: str | None, volumes: dict[str, str], written: bool) -> None:
    """Makes sure that a pod finds a location, and that what it writes there outlives it.

    Args:
        what: the argument, as the command names it.
        location: None where none is given.
        written: whether the command writes there.

    Raises:
        UserError: it is relative, or it is written and on no volume.
    """
    if location is not None and is_uri(location):
        return
    remedy = "Name a folder on a volume, e.g. --volume shop-data=/data and /data/..., or a URI, e.g. s3://shop/..."
    if location is None:
        raise UserError(what, "is not given, and what is written into the pod is lost with it", remedy)
    if not location.startswith("/"):
        raise UserError(f"{what} {location}", "is relative, and a pod does not start in your folder", remedy)
    if written and not any(_within(posixpath.normpath(location), folder) for folder in volumes):
        raise UserError(f"{what} {location}", "is on no volume of the pod, and would be lost with it", remedy)


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder}/")
