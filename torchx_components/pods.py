"""Pods on Kubernetes: what a training needs of them and TorchX 0.7 has no option for, laid over those that it renders."""

import json
from pathlib import Path
from typing import Any, Dict, List, Optional

from torchx.schedulers.kubernetes_scheduler import sanitize_for_serialization
from torchx.specs.finder import ComponentValidationException

GRACE_SECONDS = 300
"""From SIGTERM to SIGKILL, where the file does not say. Kubernetes' own 30 may be too short to write a checkpoint."""

LEFT_SECONDS = 15
"""How much of that torchrun keeps for itself, after it has ended ranks that are still there."""

WAIT_SECONDS = 600
"""How long nodes look for the first one, whose image may take longest to arrive. It waits as long for them; they, 60 by default."""

KEYS = {"env": "name", "ports": "containerPort", "volumeMounts": "mountPath", "volumes": "name"}
"""Lists that TorchX renders, and what tells their entries apart; the keys of Kubernetes' strategic merge patches."""


def lay_over(tasks: List[Dict[str, Any]], file: Optional[str]) -> None:
    """Gives the pods of a job's tasks time to meet and to save, and lays what the JSON ``file`` says over them.

    Raises:
        ComponentValidationException: the file is not what is laid over a pod.
    """
    over = _read(file) if file else {}
    for task in tasks:
        pod = _as_given(sanitize_for_serialization(task["template"]))
        task["template"] = _with_time(_merged(pod, over))


def _read(file: str) -> Dict[str, Any]:
    """A pod in parts: metadata and spec, with one container or none."""

    def wrong(what: str) -> ComponentValidationException:
        return ComponentValidationException(f"--pod {file}: {what}")

    try:
        pod = json.loads(Path(file).read_text(encoding="utf-8"))
    except OSError as error:
        raise wrong(f"cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise wrong(f"is not JSON: {error}") from None
    if not isinstance(pod, dict) or not isinstance(pod.get("spec", {}), dict):
        raise wrong("is not an object whose 'spec' is an object")
    if unknown := sorted(pod.keys() - {"metadata", "spec"}):
        raise wrong(f"has {unknown[0]!r}; only 'metadata' and 'spec' of a pod can be laid over TorchX's")
    spec = pod.get("spec", {})
    if not isinstance(spec.get("terminationGracePeriodSeconds", 0), int):
        raise wrong("'terminationGracePeriodSeconds' must be a number of seconds")
    containers = spec.get("containers", [])
    if not _are_objects(containers) or len(containers) > 1:
        raise wrong("'containers' must be a list of one object: it is laid over the only container there is")
    if containers and "name" in containers[0]:
        raise wrong("the container must have no 'name': TorchX names it after the task, each node's differently")
    fields = {**spec, **(containers[0] if containers else {})}
    for field, key in KEYS.items():
        if not _are_objects(fields.get(field, []), key):
            raise wrong(f"{field!r} must be a list of objects, each with {key!r}")
    return pod


def _as_given(pod: Dict[str, Any]) -> Dict[str, Any]:
    """The pod, in which Kubernetes takes no ``$(NAME)`` for the value of a variable, nor ``$$`` for ``$``."""

    def escaped(text: str) -> str:
        return text.replace("$$", "$$$$").replace("$(", "$$(")

    for container in pod["spec"]["containers"]:
        container["command"] = [escaped(word) for word in container["command"]]
        for variable in container["env"]:
            if "value" in variable:
                variable["value"] = escaped(variable["value"])
    return pod


def _are_objects(value: Any, *fields: str) -> bool:
    return isinstance(value, list) and all(isinstance(one, dict) and one.keys() >= set(fields) for one in value)


def _merged(base: Any, over: Any, field: str = "") -> Any:
    """``over`` laid over ``base``, as a strategic merge patch would be, but that an entry of a list is replaced as a whole."""
    if isinstance(base, dict) and isinstance(over, dict):
        return {**base, **{key: _merged(base.get(key), value, key) for key, value in over.items()}}
    if field == "containers":
        return [_merged(one, other) for one, other in zip(base, over, strict=False)] or base
    if field in KEYS and base:
        key = KEYS[field]
        replaced = {entry[key] for entry in over}
        return [entry for entry in base if entry[key] not in replaced] + over
    return over


def _with_time(pod: Dict[str, Any]) -> Dict[str, Any]:
    """The pod, whose torchrun knows how long to wait for the first node, and for ranks that save and leave."""
    grace = pod["spec"].setdefault("terminationGracePeriodSeconds", GRACE_SECONDS)
    times = {
        "PET_RDZV_CONF": f"read_timeout={WAIT_SECONDS}",  # torchrun's --rdzv-conf
        "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": str(max(1, grace - LEFT_SECONDS)),
    }
    [container] = pod["spec"]["containers"]
    given = {entry["name"] for entry in container["env"]}
    container["env"] += [{"name": name, "value": value} for name, value in times.items() if name not in given]
    return pod
