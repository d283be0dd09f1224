"""``foundrank manifest``."""

from typing import Annotated, Any, Literal

import typer
import yaml

from ...data.errors import UserError
from ..manifests.kinds import manifests
from ..manifests.request import Kind, Request, check_place, check_request, volumes_of
from .commands.embed import embed
from .commands.score import score
from .commands.tokenize import tokenize
from .commands.train import train
from .versions.align import align
from .versions.update import update

COMMANDS = {"train": train, "update": update, "score": score, "embed": embed, "tokenize": tokenize, "align": align}
# Arguments that are places, as the commands' functions name them: what to call each, and whether the command writes there.
PLACES = {
    "train": {"experiment": ("the experiment", False), "run": ("--run-dir", True)},
    "update": {"run": ("the run", True)},
    "score": {"run": ("the run", False), "source": ("the input", False), "out": ("the output", True)},
    "embed": {"experiment": ("the experiment", True)},  # the content store is beside it
    "tokenize": {"experiment": ("the experiment", True), "export": ("--export", True)},
    "align": {"run": ("the run", False), "out": ("the output", True), "reward": ("--reward", False)},
}
LEFT_OUT = ("export",)  # what nothing is lost without


def manifest(
    command: Annotated[
        Literal["train", "update", "score", "embed", "tokenize", "align"],
        typer.Argument(help="the command to run: train, update, score, embed, tokenize or align"),
    ],
    arguments: Annotated[
        list[str],
        typer.Argument(metavar="ARGUMENTS...", help="its arguments and options, with paths as the pod sees them"),
    ],
    image: Annotated[str, typer.Option(help="container image with foundrank (Dockerfile)")],
    kind: Annotated[Kind, typer.Option(help="the object that runs it")] = "job",
    name: Annotated[
        str | None, typer.Option(help="of the job and all that belongs to it  [default: foundrank-COMMAND]")
    ] = None,
    schedule: Annotated[
        str | None, typer.Option(help="of a cronjob, e.g. '30 3 * * *'; the cluster's time zone counts")
    ] = None,
    pods: Annotated[int, typer.Option(min=1, max=10_000, help="pods that do the work together, one rank each")] = 1,
    processes: Annotated[
        int | None,
        typer.Option("--processes", "-p", min=1, help="ranks in a pod alone  [default: one per GPU, else 1]"),
    ] = None,
    cpu: Annotated[int, typer.Option(min=1, help="CPU cores of a pod")] = 2,
    gpu: Annotated[int, typer.Option(min=0, help="GPUs of a pod")] = 0,
    memory: Annotated[str, typer.Option(help="memory of a pod, shared memory included")] = "8Gi",
    volume: Annotated[
        list[str] | None, typer.Option(metavar="CLAIM=/FOLDER", help="a PersistentVolumeClaim in each pod; repeatable")
    ] = None,
    cache: Annotated[
        str | None,
        typer.Option(
            metavar="CLAIM",
            help="for what can be made again: copies from object stores, kernels  [default: lost with the pod]",
        ),
    ] = None,
    secret: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="a Secret whose keys become environment variables; repeatable"),
    ] = None,
    retries: Annotated[int, typer.Option(min=0, max=100, help="times it is started again after a fault")] = 3,
    namespace: Annotated[str | None, typer.Option(help="[default: kubectl's]")] = None,
    service_account: Annotated[
        str | None, typer.Option(help="one that exists  [default: one of the job's own]")
    ] = None,
) -> None:
    """Print a Kubernetes manifest that runs a command: foundrank manifest train ... | kubectl apply -f -"""
    from ..align.reward_spec import HITS, NOISE  # for start-up time: it comes with torch

    given = _parsed(command, arguments)
    volumes = volumes_of(volume or [])
    if given["processes"] is not None:
        raise UserError("--processes", "is among the command's arguments", "Give -p before them, or before '--'.")
    for argument, (what, written) in PLACES[command].items():
        if (given[argument] is None and argument in LEFT_OUT) or (
            argument == "reward" and given[argument] in (HITS, NOISE)
        ):
            continue
        check_place(what, given[argument], volumes, written)
    request = Request(
        command=command,
        arguments=tuple(arguments),
        kind=kind,
        name=name or f"foundrank-{command}",
        image=image,
        pods=pods,
        processes=processes or max(gpu if pods == 1 and kind != "pytorchjob" else 1, 1),
        cpu=cpu,
        gpu=gpu,
        memory=memory,
        volumes=volumes,
        cache=cache,
        secrets=tuple(secret or ()),
        retries=retries,
        namespace=namespace,
        service_account=service_account,
        schedule=schedule,
    )
    check_request(request)
    print(yaml.dump_all(manifests(request), Dumper=_Plain, sort_keys=False, width=1000), end="")


class _Plain(yaml.SafeDumper):
    """Writes a dict that stands in several places each time: no other reader need know references."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _parsed(command: str, arguments: list[str]) -> dict[str, Any]:
    """The arguments as the command itself will read them; it refuses here what it would refuse in the pod."""
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command()(COMMANDS[command])
    return typer.main.get_command(app).make_context(f"foundrank {command}", list(arguments)).params
