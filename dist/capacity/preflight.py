"""What would fail after an hour in a queue, found in seconds: the checks of ``--check``."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ...data.codes.code_store import open_coded
from ...data.config.experiment import Experiment
from ...data.content_kinds.content import Missing
from ...data.contents.catalog_inputs import CatalogInputs
from ...data.contents.content_store import check_store, open_store, store_folder
from ...data.counting.counting_pass import count
from ...data.errors import UserError
from ...data.events.check_events import check_events
from ...data.events.event_files import EventFiles
from ...data.machine.limits import memory
from ...data.schema.column_needs import needed_columns
from ...data.schema.layout import Layout
from ...data.storage.file_systems import is_uri
from ...data.storage.mirror import mirrored, shown
from ...data.storage.new_folder import check_can_be_made
from ...data.storage.storage import names
from ...model.contents.pretrained import folder_or_id
from ...model.contents.text_encoder_loading import model_source
from ..align.request import BEFORE, LISTED, TRAIN, AlignJob
from ..evaluate.prepare import EvaluationJob
from ..fine_tuning.pretrained import held_id_types, pretrained
from ..logs.records import warning
from ..ranks.job import count_of
from ..run.new_run import check_new_or_same, check_same_beside, check_same_events
from ..run.run_folder import EXPERIMENT, open_run, open_statistics
from ..score.work_list import WorkList
from ..sharding.planner import Ranks, bytes_of_tables
from ..train.delta_versions import with_versions
from ..train.prepare import check_optimizer, sized
from .cluster import read_cluster
from .footprint import Footprint, footprint
from .reading import arrow_bytes, check_held, held_by_metrics, held_by_reader, held_by_scorer, largest_group

_COUNTED_ROWS = 500_000
_LOOKED_AT = 500  # inputs of encoders that are elsewhere, such as pictures
_SMALLER_GROUPS = (
    "Give it more memory or fewer ranks on a machine, or write smaller row groups, e.g. row_group_size=100_000."
)


@dataclass(frozen=True)
class Checked:
    """A training of which nothing was found wrong.

    Attributes:
        told: what was found.
        experiment: sized as it will be trained.
        layout: of what was counted.
    """

    told: list[str]
    experiment: Experiment
    layout: Layout


def ranks_here(processes: int, elsewhere: int = 0) -> Ranks:
    """So many ranks on this machine, and so many on others."""
    cuda = torch.cuda.is_available()
    device_bytes = torch.cuda.get_device_properties(0).total_memory if cuda else None
    host_bytes = memory() // processes
    return Ranks("cuda" if cuda else "cpu", processes + elsewhere, processes, host_bytes, device_bytes)


def ranks_asked(cluster: str | None, processes: int | None) -> Ranks:
    """Those of a cluster as for `foundrank plan`, or so many on this machine, as many as are usual by default.

    Raises:
        UserError: the cluster is described wrongly, or there are more ranks than GPUs.
    """
    return read_cluster(cluster).ranks if cluster is not None else ranks_here(count_of(processes))


def check_training(experiment: Experiment, run: Path, ranks: Ranks) -> Checked:
    """Everything `train` would find wrong before its first step, without counting all the data.

    Tables of ids that are still to be counted are taken to be as large as the first rows make them: what is said to fit may yet be
    too large, what is said to be too large is.

    Args:
        experiment: the experiment.
        run: the run folder.
        ranks: that it is to run on.

    Raises:
        UserError: the first thing wrong.
    """
    check_optimizer(experiment, ranks.device)
    experiment = with_versions(experiment, run)
    events = check_events(experiment, held=held_id_types(run, experiment))
    train = {name: of_domain["train"] for name, of_domain in events.items()}
    experiment = sized(experiment, train, run)
    for name, files in train.items():  # before some of them are counted, for which they are read
        columns = [need.name for need in needed_columns(experiment, name)]
        whole_group = 2 * largest_group(files) * arrow_bytes(files, columns)
        check_held(whole_group, 0, ranks, f"the largest row group of '{name}'", _SMALLER_GROUPS)
    before = pretrained(experiment) if experiment.init_from is not None else None
    if goes_on := check_new_or_same(run, experiment):
        check_same_events(run, train)
        check_same_beside(run, experiment)
        statistics, whole = open_run(run)[1], True
    else:
        some = _first_rows(train)
        statistics, whole = count(experiment, some), some == train
        if before is not None:
            statistics = before.statistics.extended(statistics)
    for of in experiment.stores_read():
        check_store(open_store(store_folder(experiment, of)), experiment, of)
    open_coded(experiment, statistics.codes)
    layout = statistics.layout(experiment)
    found = footprint(layout, experiment, ranks)
    _check_fits(found, ranks)
    reads = held_by_reader(experiment, layout, train, ranks)
    held = check_held(reads, found.total.max(), ranks, "row groups as they are read", _SMALLER_GROUPS)
    rows, least = sum(files.rows for files in train.values()), "" if whole else "at least "
    tables = sum(layout.tables.values())
    told = [
        f"{len(train)} domain(s), {rows:,} training rows; {len(layout.tables)} tables with {least}{tables:,} rows",
        f"{least}{found.total.max() / 2**30:.2f} GiB on the fullest of {ranks.count} rank(s), which have {ranks.bytes / 2**30:.1f}",
        f"with what is read and the process itself, {held}",
        f"run folder: {shown(run)}" + (", where a training goes on" if goes_on else ""),
    ]
    return Checked(told, experiment, layout)


def check_evaluation(job: EvaluationJob, ranks: Ranks) -> list[str]:
    """What `evaluate` would find wrong once it is at work: whether it fits the memory. Arguments and errors as of `check_training`."""
    experiment, statistics = job.experiment, open_statistics(job.folder, job.experiment)
    layout = statistics.layout(experiment)
    found = footprint(layout, experiment, ranks)
    _check_fits(found, ranks)
    files = {name: of_domain[job.split] for name, of_domain in job.events.items() if job.split in of_domain}
    rows = sum(of_domain.rows for of_domain in files.values())
    reads = held_by_reader(experiment, layout, files, ranks) + held_by_metrics(layout, rows, ranks)
    held = check_held(reads, found.predicting.max(), ranks, "row groups and predictions", _SMALLER_GROUPS)
    return [f"{rows:,} rows of the {job.split} split", held]


def check_scoring(run: Path, work: WorkList, columns: Callable[[Experiment], Sequence[str]], ranks: Ranks) -> list[str]:
    """What `score` or `recommend` would find wrong once it is at work: whether it fits memory and disk.

    Args:
        run: the run folder.
        work: what is to be done.
        columns: of the input that are read, by the run's experiment.
        ranks: on which.

    Raises:
        UserError: it does not fit.
    """
    experiment, statistics = open_run(run)
    layout = statistics.layout(experiment)
    found = footprint(layout, experiment, ranks)
    tables = bytes_of_tables(layout, experiment) * experiment.seeds
    # As `replicate`: all tables on every rank, where they take up to half of what it has.
    model = found.predicting.max() if 2 * tables > ranks.bytes else tables + found.predicting_dense
    reads = held_by_scorer(layout, work.aside, columns(experiment), list(work.types))
    held = check_held(reads, model, ranks, "row groups and tables", _SMALLER_GROUPS)
    _check_disk(work.out, 4 * work.rows * max(len(layout.tasks), 1), "the scores")
    return [held]


def check_alignment(job: AlignJob, ranks: Ranks) -> list[str]:
    """What `align` would find wrong once it is at work: whether its fine-tuning, the run that rewards and the candidates fit. Arguments and errors as
    of `check_training`."""
    rows = {of: sum(files.rows for files in job.files(of).values()) for of in (TRAIN, BEFORE)}
    out, experiment = Path(job.out), job.experiment
    if not (out / EXPERIMENT).is_file():  # of candidates that are still to be found nothing can be read
        domains = {
            name: domain.model_copy(update={"events": job.generator.domains[name].events})
            for name, domain in experiment.domains.items()
        }
        objective = experiment.model.next_item.model_copy(update={"preference": None})  # type: ignore[union-attr]
        model = experiment.model.model_copy(update={"next_item": objective})
        experiment = experiment.model_copy(update={"domains": domains, "model": model})
    told = check_training(experiment, out, ranks).told
    if job.reward.run is not None:
        rewards, statistics = open_run(mirrored(job.reward.run, "read"))
        _check_fits(footprint(statistics.layout(rewards), rewards, ranks), ranks)
    # Ids and references, as they are found and as they are rewarded, and rewards.
    lists = rows[TRAIN] * job.grouping.size + 2 * rows[BEFORE] * LISTED
    _check_disk(job.out, lists * (2 * (8 + 4) + 4), "the candidates")
    return [f"{rows[TRAIN]:,} users whose {job.grouping.size} candidates are rewarded by {job.reward.name}", *told]


def _check_disk(out: str, least: int, what: str) -> None:
    """Raises a UserError where so many bytes are more than are free."""
    free = _free_bytes(out)
    if free is not None and least > free:
        told = f"is on a disk with {free / 2**30:.2f} GiB free, and {what} alone take {least / 2**30:.2f}"
        raise UserError(out, told, "Free some space, or write to another disk.")


def _free_bytes(out: str) -> int | None:
    """Bytes free where a folder is, or will be made; None for an object store."""
    if is_uri(out):
        return None
    existing = next(path for path in (Path(out), *Path(out).parents) if path.exists())
    return shutil.disk_usage(existing).free


def _check_fits(found: Footprint, ranks: Ranks) -> None:
    if (why := found.too_full(ranks)) is not None:
        raise UserError(
            f"{ranks.count} rank(s) of {ranks.bytes / 2**30:.1f} GiB",
            f"are too small: {why}",
            "Use more ranks or more memory, a smaller training.batch_size or model.embedding_dim; `foundrank plan` estimates what it takes.",
        )


def check_embedding(experiment: Experiment) -> list[str]:
    """Everything `embed` would find wrong before its first text: catalogs, templates, encoder, the store's folder.

    Raises:
        UserError: the first thing wrong.
    """
    contents = experiment.stored()
    store = mirrored(experiment.text.store, "work")
    check_can_be_made(store, f"text.store: {experiment.text.store}", "Choose a folder you can write to.")
    if is_uri(experiment.text.store):
        names(experiment.text.store)  # whether files can be written there, only writing one would tell
    told = [f"contents: {', '.join(map(str, contents)) or 'none'}; store: {experiment.text.store}"]
    sources = {"text.encoder": model_source(experiment.text)} if experiment.text.vectors == "llm" else {}
    for of in contents:
        inputs = CatalogInputs.of_experiment(experiment, of)
        told += _first_inputs(inputs)
        encoder, where = inputs.content.own_encoder, f"{inputs.place}.encoder"
        if encoder is not None and encoder.encoder is not None:
            sources[where] = folder_or_id(encoder.encoder, f"{where}: {encoder.encoder}")
    for where, source in sources.items():
        if Path(source).is_dir() and not Path(source, "config.json").is_file():
            raise UserError(
                f"{where}: {source}",
                "the folder has no config.json, so it holds no model",
                "Save a model, and what prepares its inputs, there with save_pretrained.",
            )
    return told


def _first_inputs(inputs: CatalogInputs) -> list[str]:
    """Reads the first rows of a catalog, and what is elsewhere of theirs; tells what cannot be had.

    Raises:
        UserError: a bad catalog, or these are all its rows and there is nothing of any of them.
    """
    pieces = inputs.scan()
    if (piece := next(pieces, None)) is None:
        return []
    _, found = piece
    missing, some = Missing(), found.slice(0, _LOOKED_AT)
    had = sum(digest is not None for digest in inputs.content.digests(some, missing))
    if not missing.counts:
        return []
    if len(some) == len(found) and next(pieces, None) is None:
        inputs.check_any(had, missing)
    plural, why = inputs.content.plural, ", ".join(f"{n:,} {reason}" for reason, n in missing.counts.items())
    if had == 0:
        first = next(iter(missing.examples.values()))[0]
        warning(
            f"{inputs.of}: not one of the {plural} of the first {len(some):,} rows can be had: {why}, first {first}; "
            "embed stops where that holds for all rows"
        )
        return []
    rows = sum(missing.counts.values())
    return [f"{inputs.of}: of the first {len(some):,} rows {rows:,} name {plural} that cannot be had: {why}"]


def _first_rows(train: Mapping[str, EventFiles]) -> dict[str, EventFiles]:
    """The first row groups of every domain, some hundred thousand rows in all; a domain whose share is small keeps one."""
    most = _COUNTED_ROWS // len(train)
    out = {}
    for name, files in train.items():
        kept: list[tuple[int, ...]] = []
        rows = 0
        for groups in files.group_rows:
            used = 0
            while used < len(groups) and rows < most:
                rows += groups[used]
                used += 1
            kept.append(groups[:used])
        out[name] = replace(files, group_rows=tuple(kept))
    return out
