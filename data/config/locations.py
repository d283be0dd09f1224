"""The locations that an experiment names."""

from collections.abc import Callable
from typing import Any

from ..errors import UserError
from ..storage import storage
from ..storage.globs import expand_glob
from .experiment import Experiment
from .sections.domains import SPLITS

_DOMAIN, _SPLIT = "{domain}", "{split}"


def expand_events(raw: dict[str, Any], folder: str, where: str) -> list[str]:
    """Puts the pattern ``events`` of an experiment's plain dict, for each split that has files, in those domains that name no events.

    Args:
        raw: what is written, taken apart from here on: it has no ``events`` any more.
        folder: that locations are relative to.
        where: it is written, for errors.

    Returns:
        the keys that are new.

    Raises:
        UserError: the pattern does not say where domain and split are, or a domain in use has no training events.
    """
    pattern, domains = raw.get("events"), raw.get("domains")
    if not isinstance(pattern, str) or not isinstance(
        domains, dict
    ):  # what is wrong is told when the sections are read
        return []
    if _DOMAIN not in pattern or _SPLIT not in pattern:
        raise UserError(
            f"{where}: events",
            f"'{pattern}' lacks {_DOMAIN} or {_SPLIT}",
            "Write e.g. events/{domain}/{split}/*.parquet.",
        )
    del raw["events"]
    in_use = raw.get("only") or domains
    new = []
    for name, domain in domains.items():
        if not isinstance(domain, dict) or domain.get("events") is not None:
            continue
        of_splits = {split: pattern.replace(_DOMAIN, name).replace(_SPLIT, split) for split in SPLITS}
        found = {s: files for s, files in of_splits.items() if expand_glob(storage.resolved(files, folder))}
        if "train" not in found and name in in_use:
            what = f"names no training events of domain '{name}': no file matches '{of_splits['train']}'"
            raise UserError(f"{where}: events", what, f"Correct it, or give domains.{name} its own `events`.")
        domain["events"] = {"train": of_splits["train"]} | found
        new += [f"domains.{name}.events.{split}" for split in domain["events"]]
    return new


def change_locations(raw: dict[str, Any], change: Callable[[str], str]) -> None:
    """Puts ``change(location)`` in place of each location of an experiment's plain dict: of events, catalogs, contents, codes, text vectors and
    the run to begin with. A text encoder is not one: what vectors were made with is told by its name."""
    if raw.get("init_from") is not None:
        raw["init_from"] = change(raw["init_from"])
    for entity in raw["entities"].values():
        if entity is not None and entity.get("catalog") is not None:
            entity["catalog"]["path"] = change(entity["catalog"]["path"])
        for content in entity.get("contents", {}).values() if entity is not None else ():
            if "folder" in content:
                content["folder"] = change(content["folder"])
            for name in ("path", "run"):
                if name in content.get("codes", {}):
                    content["codes"][name] = change(content["codes"][name])
    for domain in raw["domains"].values():
        events = domain["events"]
        domain["events"] = {split: pattern and change(pattern) for split, pattern in events.items()}
    raw["text"]["store"] = change(raw["text"]["store"])


def with_locations(experiment: Experiment, change: Callable[[str], str]) -> Experiment:
    """The experiment with ``change(location)`` in place of each location."""
    raw = experiment.model_dump(mode="json", exclude_none=True)
    change_locations(raw, change)
    return type(experiment).model_validate(raw)


def locations(experiment: Experiment) -> list[str]:
    """All locations of an experiment, in an order of their own."""
    found: list[str] = []

    def note(location: str) -> str:
        found.append(location)
        return location

    with_locations(experiment, note)
    return found
