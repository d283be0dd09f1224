"""The pod of a job: what runs in it, what it may do, and where it can write."""

from importlib.metadata import version
from typing import Any

from .request import Request

USER = 1000
"""That of the image (Dockerfile). A number, so that Kubernetes can tell that it is not root's."""

GRACE_SECONDS = 300
"""From SIGTERM to SIGKILL. Kubernetes' own 30 may be too short to write a checkpoint."""

LEFT_SECONDS = 15
"""How much of that the first process keeps for itself, after it has ended ranks that are still there."""

PORT = 29500
"""Where ranks of several pods meet, at the first one."""


def labels(request: Request) -> dict[str, str]:
    """What Kubernetes recommends to tell one job's objects from another's."""
    return {
        "app.kubernetes.io/name": "foundrank",
        "app.kubernetes.io/instance": request.name,
        "app.kubernetes.io/component": request.command,
        "app.kubernetes.io/version": version("foundrank").replace("+", "_"),
        "app.kubernetes.io/managed-by": "foundrank",
    }


def template(
    request: Request, env: list[dict[str, Any]], prefix: list[str] | None = None, container: str = "foundrank"
) -> dict[str, Any]:
    """A pod that passes Pod Security's level "restricted".

    Args:
        env: further environment variables, which tell a rank who it is.
        prefix: words before the command.
        container: its name.
    """
    words = ["foundrank", request.command, *request.arguments]
    if request.pods == 1 and request.kind != "pytorchjob":
        words += [
            "--processes",
            str(request.processes),
        ]  # no torchrun, which would end with 1 whatever its ranks end with
    limits: dict[str, Any] = {"cpu": str(request.cpu), "memory": request.memory}
    if request.gpu:
        limits["nvidia.com/gpu"] = str(request.gpu)
    folders = {
        "tmp": ("/tmp", {"emptyDir": {}}),
        "shm": ("/dev/shm", {"emptyDir": {"medium": "Memory", "sizeLimit": request.memory}}),
        "cache": ("/cache", _claim(request.cache) if request.cache else {"emptyDir": {}}),
        **{f"data-{at}": (folder, _claim(claim)) for at, (folder, claim) in enumerate(request.volumes.items())},
    }
    main = {
        "name": container,
        "image": request.image,
        "command": [_as_given(word) for word in [*(prefix or []), *words]],
        "env": [*_environment(), *env],
        "resources": {"limits": limits, "requests": limits.copy()},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "terminationMessagePolicy": "FallbackToLogsOnError",  # `kubectl describe pod` shows what a failed command said
        "volumeMounts": [{"name": name, "mountPath": folder} for name, (folder, _) in folders.items()],
    }
    if request.secrets:
        main["envFrom"] = [{"secretRef": {"name": name}} for name in request.secrets]
    return {
        # A proxy beside the command would keep the job from ending.
        "metadata": {"labels": labels(request), "annotations": {"sidecar.istio.io/inject": "false"}},
        "spec": {
            "serviceAccountName": request.service_account or request.name,
            "automountServiceAccountToken": False,  # foundrank does not talk to Kubernetes
            "enableServiceLinks": False,  # which would set a variable for each service of the namespace
            "terminationGracePeriodSeconds": GRACE_SECONDS,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": USER,
                "runAsGroup": USER,
                "fsGroup": USER,
                "fsGroupChangePolicy": "OnRootMismatch",
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [main],
            "volumes": [{"name": name, **source} for name, (_, source) in folders.items()],
        },
    }


def ranks_of_pods(request: Request, master: str) -> list[dict[str, Any]]:
    """What tells a pod's process that it is one rank of several, without its number."""
    values = {
        "WORLD_SIZE": str(request.pods),
        "LOCAL_RANK": "0",
        "LOCAL_WORLD_SIZE": "1",
        "MASTER_ADDR": master,
        "MASTER_PORT": str(PORT),
    }
    return [{"name": name, "value": value} for name, value in values.items()]


def _environment() -> list[dict[str, Any]]:
    values = {
        "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": str(GRACE_SECONDS - LEFT_SECONDS),
        "FOUNDRANK_CACHE": "/cache/copies",  # of what is in object stores
        "XDG_CACHE_HOME": "/cache",  # compiled kernels
        "HF_HOME": "/cache/huggingface",
        "HOME": "/tmp",  # the image cannot be written
        "PYTHONSAFEPATH": "1",
    }
    return [{"name": name, "value": value} for name, value in values.items()]


def _claim(name: str) -> dict[str, Any]:
    return {"persistentVolumeClaim": {"claimName": name}}


def _as_given(word: str) -> str:
    """A word in which Kubernetes takes no ``$(NAME)`` for the value of a variable, nor ``$$`` for ``$``."""
    return word.replace("$$", "$$$$").replace("$(", "$$(")
