"""Kubernetes jobs as TorchX renders them."""

from pathlib import Path
from typing import Any

import yaml
from torchx.runner import get_runner

ROOT = Path(__file__).parents[2]
IMAGE = ("--image", "registry.example/foundrank:1")


def printed(text: str) -> dict[str, Any]:
    """The job in what ``torchx run --dryrun`` prints."""
    return yaml.safe_load(text.partition("=== SCHEDULER REQUEST ===")[2])


def rendered(component: str, *arguments: str) -> dict[str, Any]:
    """The job that TorchX makes of a component."""
    with get_runner() as runner:
        info = runner.dryrun_component(
            f"foundrank.{component}", [*IMAGE, *arguments], "kubernetes", {"queue": "default"}
        )
    return yaml.safe_load(str(info.request))


def templates(job: dict[str, Any]) -> list[dict[str, Any]]:
    """The pod template of each node."""
    return [task["template"] for task in job["spec"]["tasks"]]


def container(template: dict[str, Any]) -> dict[str, Any]:
    """The only container of a pod."""
    [one] = template["spec"]["containers"]
    return one


def environment(template: dict[str, Any]) -> dict[str, str]:
    """Its environment variables that have a value."""
    return {entry["name"]: entry["value"] for entry in container(template)["env"] if "value" in entry}
