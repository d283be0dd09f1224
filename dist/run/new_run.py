"""The run that a training makes, or goes on in: whether it may, and what it notes of what it began with."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ...data.config.effects import remove
from ...data.config.experiment import Experiment
from ...data.config.kinds import kinds_of
from ...data.config.load import dump_experiment, load_written
from ...data.config.locations import locations
from ...data.config.old_keys import says
from ...data.counting.statistics import Statistics
from ...data.errors import UserError
from ...data.events.event_files import EventFiles
from ...data.storage.file_identity import changed_content, identities, same_content
from ...data.storage.globs import would_name
from ...data.storage.local_writes import refuse_links
from ...data.storage.mirror import mirrored, origin
from ...data.storage.new_folder import check_can_be_made, is_free, new_folder
from ...data.storage.storage import check_writable, join
from .joined import joined
from .kept_checkpoints import best_of_members, complete, identity
from .moved_runs import settled
from .old_runs import FORMAT
from .run_documents import Events, RunInfo
from .run_folder import (
    BEFORE_ONE,
    EVENTS,
    EXPERIMENT,
    RUN_INFO,
    VOCABULARY,
    fetch_run,
    order_of_lookups,
    publish_run,
    read_json,
    write_json,
)


class Changed(UserError):
    """What a run began with is not what it is to go on with."""


def create_run(
    run: Path,
    experiment: Experiment,
    statistics: Statistics,
    train: Mapping[str, EventFiles],
    base: Sequence[Path] = (),
    noted: Mapping[str, Any] = MappingProxyType({}),
) -> None:
    """Makes the folder of a new run, whole or not at all.

    Args:
        run: its folder.
        experiment: the experiment.
        statistics: of its training events.
        train: domain -> its training files.
        base: folders of the checkpoints that its models begin with; none where they begin with none.
        noted: what is known of the files, as of `CountedOf`, to spare reading those that cannot have changed since.
    """
    begun: dict[str, Any] = {"format": FORMAT, "joined": joined(experiment, noted.get("joined", ()))}
    begun |= {"base": identity(base)} if base else {}
    begun |= {"counted_elsewhere": noted["tables"]} if noted.get("tables") else {}
    begun |= {"folder": str(run.resolve())} if origin(run) is None else {}
    try:
        with new_folder(run, last=EXPERIMENT, left=BEFORE_ONE) as folder:
            statistics.save(folder / VOCABULARY)
            (folder / EVENTS).write_text(
                json.dumps(described(train, noted.get("events", {})), indent=1), encoding="utf-8"
            )
            (folder / RUN_INFO).write_text(json.dumps(begun), encoding="utf-8")
            (folder / EXPERIMENT).write_text(dump_experiment(experiment), encoding="utf-8")
    except OSError as error:
        raise UserError(
            run, f"cannot be made ({error.strerror})", "Choose a run folder on a disk you can write to."
        ) from error
    publish_run(run)


def check_same_events(run: Path, train: Mapping[str, EventFiles]) -> None:
    """Makes sure that the training events are those a run began with: its place in an epoch is a place among them.

    Raises:
        UserError: a file is new, gone, or another; the first that differs is named.
    """
    then = read_json(run / EVENTS, Events, {})
    now = described(train, then)
    for name, files in now.items():
        noted = then.get(name, [])
        if all("checksum" in file for file in noted) and same_content(noted, files):  # wherever they are by now
            continue
        old, new = ({file["file"]: file for file in of_run} for of_run in (noted, files))
        for file in sorted(old.keys() | new.keys()):
            if file not in old or file not in new or not _same(old[file], new[file]):
                changed = "is new" if file not in old else "is gone" if file not in new else "has changed"
                raise Changed(
                    file,
                    f"{changed} since the training in '{run}' began, so it cannot resume",
                    "Bring back the events as they were, or train into another folder with --run-dir.",
                )


def check_same_beside(run: Path, experiment: Experiment) -> None:
    """Makes sure that catalogs, content stores and the checkpoint to begin with are those a run began with; what it does not say
    of them, as a run of an older version, is taken to be the same.

    Raises:
        UserError: one has changed.
    """
    info = read_json(run / RUN_INFO, RunInfo, {})
    remedy = "Bring it back as it was, or train into another folder with --run-dir."
    then = info.get("joined")
    if then is not None and (file := changed_content(then, joined(experiment, then))) is not None:
        raise Changed(file, f"has changed since the training in '{run}' began, so it cannot resume", remedy)
    # After its first checkpoint a run needs the other one only to know what is frozen.
    if experiment.init_from is None or "base" not in info or (complete(run) and not experiment.training.freeze):
        return
    base = mirrored(experiment.init_from, "read")
    fetch_run(base)
    if identity(best_of_members(base)) != info["base"]:
        where = f"init_from: {experiment.init_from}"
        what = f"has another best checkpoint than when the training in '{run}' began, so it cannot resume"
        raise Changed(where, what, remedy)


def _same(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether a file is the one that was noted; of runs that an older version began there is no checksum."""
    return all(new.get(name) == value for name, value in old.items() if name != "stat")


def described(
    train: Mapping[str, EventFiles], before: Mapping[str, list[dict[str, Any]]] = MappingProxyType({})
) -> dict[str, list[dict[str, Any]]]:
    """Domain -> its files, what they are, rows of each row group, and what is wrong with those set aside; ``before`` is the same
    as it was noted earlier, to spare reading files that cannot have changed since."""
    out: dict[str, list[dict[str, Any]]] = {}
    for name, events in train.items():
        noted = before.get(name, [])
        used = zip(identities(events.files, noted), events.group_rows, strict=True)
        out[name] = [file | {"rows": list(rows)} for file, rows in used]
        aside = zip(identities([file for file, _ in events.set_aside], noted), events.set_aside, strict=True)
        out[name] += [file | {"set_aside": why} for file, (_, why) in aside]
    return out


def check_new_or_same(run: Path, experiment: Experiment) -> Experiment | None:
    """The experiment of a run that holds this very one; None where the folder is free to use.

    Of the two, go on with the run's: its parts, such as domains and features, have the order that its checkpoints have. The file's
    may be another by now.

    Raises:
        UserError: the folder holds something else, or another experiment: the differences are listed.
    """
    fetch_run(run)
    if (uri := origin(run)) is not None:
        check_writable(uri)
    if run.exists() and not run.is_dir():
        raise UserError(run, "is a file", "Give a folder for the run.")
    check_can_be_made(run, run, "Choose another folder with --run-dir.")
    _check_apart(run, experiment)
    if is_free(run, BEFORE_ONE):
        refuse_links(run, files=True)  # in what a job that died may have left
        return None
    if not (run / EXPERIMENT).is_file():
        raise UserError(run, "is not empty and holds no run", "Choose another folder with --run-dir.")
    refuse_links(run, files=True)
    given = set(locations(experiment))
    made_in = read_json(run / RUN_INFO, RunInfo, {}).get("folder")
    old, written = load_written(run / EXPERIMENT, kinds=kinds_of(experiment))
    old = settled(old, made_in, run, given.__contains__)
    then, now = old.model_dump(), experiment.model_dump()
    for key in written.unknown_then:  # a run that an older version began goes on as it began
        if not says(experiment, key):
            remove(then, key)
            remove(now, key)
    if then != now:
        changed = list(differences(then, now))
        shown = "; ".join(changed[:5]) + ("; ..." if len(changed) > 5 else "")
        raise Changed(
            run,
            f"holds a run of another experiment ({shown})",
            "Choose another folder with --run-dir, or undo the change.",
        )
    return old


def _check_apart(run: Path, experiment: Experiment) -> None:
    """Makes sure that no vocabulary of the run is taken for the data it is trained on.

    Raises:
        UserError: a pattern of events or of a catalog would name it.
    """
    vocabulary = join(origin(run) or str(run.absolute()), VOCABULARY, "user.parquet")
    patterns = [pattern for domain in experiment.domains.values() for pattern in domain.events.model_dump().values()]
    patterns += [entity.catalog.path for entity in experiment.entities.present().values() if entity.catalog is not None]
    for pattern in patterns:
        if pattern is not None and would_name(pattern, vocabulary):
            raise UserError(run, f"is in a folder that is read as data: '{pattern}'", "Choose another with --run-dir.")


def keep_format(run: Path) -> None:
    """Notes that a training that goes on is one of today's.

    Raises:
        UserError: it cannot go on: an older version's optimizer has an order of its own.
    """
    info = read_json(run / RUN_INFO, RunInfo, {})
    if info.get("format") == FORMAT:
        return
    if order_of_lookups(run) is not None:
        raise UserError(
            run,
            "was trained by an older version with gate: none on several ranks, and cannot go on",
            "Begin another run with init_from, which takes its lookups by name, as evaluate and score do.",
        )
    write_json(run / RUN_INFO, info | {"format": FORMAT})


def differences(old: Any, new: Any, at: str = "") -> Iterable[str]:
    """Each value that is not the same in two nested dicts, with its dotted name."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in {**old, **new}:
            yield from differences(old.get(key), new.get(key), f"{at}.{key}" if at else str(key))
    elif old != new:
        yield f"{at}: {old!r} there, {new!r} here"
