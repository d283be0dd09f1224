"""What the data holds and what the model will be, told before anything is trained."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from ...data.arrow.column_types import WEIGHT
from ...data.arrow.ids import id_keys
from ...data.arrow.times import seconds
from ...data.arrow.values import floats
from ...data.catalogs.catalog import read_catalog
from ...data.codes.code_store import codes_folder, open_codes, read_codes_manifest
from ...data.codes.quality import COLUMNS as CODE_COLUMNS
from ...data.codes.quality import code_rows
from ...data.config.experiment import Experiment
from ...data.config.sections.domains import SPLITS
from ...data.config.sections.entities import OTHER_ASPECTS, EntityConfig, Stored
from ...data.config.sections.next_item import ITEM
from ...data.content_kinds.codes import Codes
from ...data.content_kinds.content import Content, Embedded
from ...data.content_kinds.vector import Vector
from ...data.contents.conditioning import fitted, mean_cosine
from ...data.contents.content_store import ContentStore, missing_told, open_store, store_folder
from ...data.counting.by_size import by_size
from ...data.counting.counting_pass import count
from ...data.counting.statistics import Statistics
from ...data.errors import UserError
from ...data.events.bad_rows import read_good_rows
from ...data.events.check_events import check_events
from ...data.events.event_files import EventFiles
from ...data.rates.columns import rates_told
from ...data.schema.column_needs import needed_columns
from ...data.schema.layout import id_key
from ...data.storage.file_systems import StorageError
from ...data.vocabulary.key_counts import Table as Ids
from ...data.vocabulary.row_counts import seen as rows_seen
from ...data.vocabulary.vocabulary import Vocabulary
from ...model.foundation.foundation import Foundation
from ..logs.progress import Progress
from ..logs.records import warning
from ..report.terminal_tables import empty_table


def describe(experiment: Experiment, console: Console) -> None:
    """Prints rows, rates and cold shares per domain, then entities, contents, tables and sizes.

    Raises:
        UserError: the first thing wrong with the data; the content stores alone may still be missing.
    """
    events = check_events(experiment)
    stores = _stores(experiment)
    missing = [of for of in experiment.stores_read() if of not in stores]
    uncoded = [of for of in experiment.coded() if read_codes_manifest(codes_folder(experiment, of)) is None]
    counted = _without(experiment, {of.content for of in (*missing, *uncoded)})
    train = {name: of_domain["train"] for name, of_domain in events.items()}
    with Progress(
        "counting the training events", "rows", sum(files.rows for files in train.values()), "counting"
    ) as done:
        statistics = count(counted, train, done.add)
    console.print(_domains(experiment, events, statistics))
    _tell_times(experiment, events, console)
    if statistics.rate_columns:
        console.print(rates_told(experiment), highlight=False)
    console.print(_entities(experiment, statistics))
    of_events = {"context": experiment.context} | {name: of.features for name, of in experiment.domains.items()}
    for place, features in ((place, features) for place, features in of_events.items() if features):
        named = (f"{name} ({feature.kind}{', bias' * feature.bias})" for name, feature in features.items())
        console.print(f"features of {place}: {', '.join(named)}", highlight=False)
    if any(entity.every_content() for entity in experiment.entities.present().values()):
        console.print(_contents(experiment, statistics, stores))
    if codes := code_rows(experiment):
        console.print(_codes(codes))
    console.print(_tables(counted, statistics))
    sized = by_size(experiment, sum(statistics.rows.values()))
    source = (
        "written" if experiment.training.says_batch_size else f"by data size: {sum(statistics.rows.values()):,} rows"
    )
    console.print(f"training.batch_size: {sized.training.batch_size} ({source})", highlight=False)
    for of, store in stores.items():
        if (told := missing_told(store.manifest)) is not None:
            console.print(f"{of}: {told}", highlight=False)
    for of in missing:
        kind = experiment.stored()[of].kind
        console.print(f"{of}: no {kind} vectors yet; run `foundrank embed` before training", highlight=False)
    for of in uncoded:
        console.print(f"{of}: no codes yet; run `foundrank tokenize` before training", highlight=False)


def _without(experiment: Experiment, contents: set[str]) -> Experiment:
    """The experiment whose model does not look at some contents."""
    if not contents:
        return experiment
    model = experiment.model
    changes: dict[str, Any] = {
        "aspects": tuple(name for name in model.aspects if name not in contents) or OTHER_ASPECTS
    }
    if model.next_item is not None and model.target in contents:
        changes["next_item"] = model.next_item.model_copy(update={"target": ITEM})
    return experiment.model_copy(update={"model": model.model_copy(update=changes)})


def _stores(experiment: Experiment) -> dict[Stored, ContentStore]:
    """The content stores that are there."""
    found = {}
    for of in experiment.stores_read():
        try:
            found[of] = open_store(store_folder(experiment, of))
        except StorageError:
            raise
        except UserError:
            continue
    return found


def _domains(experiment: Experiment, events: Mapping[str, Mapping[str, EventFiles]], statistics: Statistics) -> Table:
    table = empty_table("Domains", ["domain", "kind"], [*SPLITS, "cold items", "cold users"])
    tasks = [task for domain in experiment.domains.values() for task in domain.tasks.values()]
    means = " or ".join(dict.fromkeys(task.measures.mean.title for task in tasks)) or "labels"
    table.add_column(f"{means} in training")
    weighted = any(domain.weight_of(task) for domain in experiment.domains.values() for task in domain.tasks)
    if weighted:
        table.add_column("weights in training")
    for name, domain in experiment.domains.items():
        rows = [f"{events[name][split].rows:,}" if split in events[name] else "–" for split in SPLITS]
        last = next((split for split in reversed(SPLITS) if split in events[name] and split != "train"), None)
        cold = [
            _cold_share(experiment, name, events[name][last], statistics, entity)
            if last and not domain.lacks(entity) and id_key(entity) in statistics.tables
            else "–"
            for entity in ("item", "user")
        ]
        of_tasks = []
        for task, (labelled, total) in statistics.labels[name].items():
            mean = format(total / labelled, domain.tasks[task].measures.mean.format) if labelled else "–"
            of_tasks.append(f"{task} {mean}")
        weights = [_weights(experiment, name, events[name]["train"])] if weighted else []
        table.add_row(
            name + (" (cold)" if domain.cold else ""), domain.kind, *rows, *cold, ", ".join(of_tasks), *weights
        )
    return table


def _tell_times(experiment: Experiment, events: Mapping[str, Mapping[str, EventFiles]], console: Console) -> None:
    """From when to when each split of the domains with a `time` is, and a warning where one begins before training's end."""
    for name, domain in experiment.domains.items():
        if domain.time is None:
            continue
        ranges = {split: found for split in events[name] if (found := _times(experiment, name, events[name][split]))}
        told = ", ".join(f"{split} {_moment(first)} to {_moment(last)}" for split, (first, last) in ranges.items())
        console.print(f"{name}: {told or f'no time in column {domain.time}'}", highlight=False)
        for split, (first, _) in ranges.items():
            if split != "train" and "train" in ranges and first < ranges["train"][1]:
                warning(
                    f"domains.{name}.events.{split} begins at {_moment(first)}, before training ends, at "
                    f"{_moment(ranges['train'][1])}: metrics will be of a past that the model has seen the future of"
                )


def _times(experiment: Experiment, domain: str, files: EventFiles) -> tuple[float, float] | None:
    """The first and the last time of some events, in seconds; None where none is known."""
    column, needs = experiment.domains[domain].time, needed_columns(experiment, domain)
    assert column is not None
    first, last = np.inf, -np.inf
    for path, group in files.row_groups:
        at = seconds(read_good_rows(path, group, needs, [column], experiment.bad_data)[column])
        first, last = np.nanmin(at, initial=first), np.nanmax(at, initial=last)
    return (float(first), float(last)) if first <= last else None


def _moment(at: float) -> str:
    """A time in seconds as UTC; as it is where no calendar has it."""
    try:
        return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (OverflowError, OSError, ValueError):
        return f"{at:g} s"


def _cold_share(experiment: Experiment, domain: str, files: EventFiles, statistics: Statistics, entity: str) -> str:
    """Of the rows of the last split that have an id, the share whose id training never saw."""
    ids, column = statistics.tables[id_key(entity)], experiment.entities.present()[entity].id
    needs, cold, rows = needed_columns(experiment, domain), 0, 0
    for path, group in files.row_groups:
        table = read_good_rows(path, group, needs, [column], experiment.bad_data)
        keys, valid = id_keys(table[column])
        cold += int((ids.counts[ids.lookup(keys[valid])] == 0).sum())
        rows += int(valid.sum())
    return f"{cold / rows:.1%}" if rows else "–"


def _weights(experiment: Experiment, domain: str, files: EventFiles) -> str:
    """Of each column of weights, their mean (null counts 1), and the shares of rows that are left out and that say nothing."""
    needs, told = needed_columns(experiment, domain), []
    for column in dict.fromkeys(need.name for need in needs if need.holds == WEIGHT):
        total = zero = null = rows = 0
        for path, group in files.row_groups:
            weights = floats(read_good_rows(path, group, needs, [column], experiment.bad_data)[column])
            rows, null, zero = rows + len(weights), null + np.isnan(weights).sum(), zero + (weights == 0).sum()
            total += np.nan_to_num(weights, nan=1.0).sum()
        shares = [f"{share:.1%} {what}" for share, what in ((zero / rows, "zero"), (null / rows, "null")) if share]
        told.append(", ".join([f"{column} {total / rows:.3g}", *shares]) if rows else column)
    return "; ".join(told)


def _entities(experiment: Experiment, statistics: Statistics) -> Table:
    table = empty_table("Entities", ["entity", "ids in training", "in catalog", "features"])
    for name, entity in experiment.entities.present().items():
        ids = statistics.tables.get(id_key(name))  # None where the model looks none up
        seen = "–" if ids is None else f"{len(rows_seen(ids.counts)[0]):,}"
        features = ", ".join(f"{n} ({f.kind})" for n, f in entity.features.items()) or "–"
        table.add_row(name, seen, _in_catalog(name, entity, ids), features)
    return table


def _in_catalog(name: str, entity: EntityConfig, ids: Ids | None) -> str:
    """Share of the training rows that have an id, whose id is in the catalog."""
    if entity.catalog is None or not isinstance(ids, Vocabulary):  # hashed ids cannot be told apart
        return "–"
    keys, _ = id_keys(read_catalog(name, entity, [])[entity.catalog.key])
    return _share(ids, keys)


def _contents(experiment: Experiment, statistics: Statistics, stores: Mapping[Stored, ContentStore]) -> Table:
    table = empty_table("Contents", ["entity", "content", "made of", "width", "rows that have it", "mean cosine"])
    for name, entity in experiment.entities.present().items():
        for content_name, content in entity.every_content().items():
            of, ids = Stored(name, content_name), statistics.tables.get(id_key(name))
            if isinstance(content, Codes):
                method, levels = f"codes, {content.codes.method}", str(len(content.codes.sizes))
                table.add_row(name, content_name, method, levels, _coded(experiment, of, ids), "–")
                continue
            if isinstance(content, Embedded):
                made_of, width = content.template, statistics.content_sizes.get(of.name)
            else:
                assert isinstance(content, Vector)
                made_of, width = f"column {content.vector}", content.size
            store = stores.get(of)
            share = _coverage(name, entity, content, ids, store)
            cosine = _cosine(store, experiment.model.content_conditioning) if store is not None else "–"
            table.add_row(name, content_name, made_of, str(width or "–"), share, cosine)
    return table


def _cosine(store: ContentStore, conditioning: str) -> str:
    """The mean cosine of random pairs of its vectors, and what it becomes where they are conditioned."""
    before = mean_cosine(store.vectors)
    if before is None or conditioning == "none":
        return "–" if before is None else f"{before:z.2f}"
    after = mean_cosine(store.vectors, fitted(store.vectors, np.unique(store.row_of_key), conditioning == "whiten"))
    return f"{before:z.2f}, then {after:z.2f}"


def _coverage(name: str, entity: EntityConfig, content: Content, ids: Ids | None, store: ContentStore | None) -> str:
    """Share of the training rows that have an id, which has the content in its store, or in the catalog."""
    if store is not None and isinstance(ids, Vocabulary):
        return _share(ids, id_keys(store.keys)[0])
    if entity.catalog is None or not entity.content_in_catalog(content) or not isinstance(ids, Vocabulary):
        return "–"
    if isinstance(content, Embedded):
        catalog = read_catalog(name, entity, content.columns)
        there = content.inputs(catalog).is_valid()
    else:
        assert isinstance(content, Vector)
        catalog = read_catalog(name, entity, [content.vector])
        there = catalog[content.vector].is_valid()
    keys, _ = id_keys(catalog[entity.catalog.key])
    return _share(ids, keys[there.to_numpy(zero_copy_only=False)] if len(keys) else keys)


def _coded(experiment: Experiment, of: Stored, ids: Ids | None) -> str:
    """Share of the training rows that have an id, whose item has codes."""
    folder = codes_folder(experiment, of)
    if not isinstance(ids, Vocabulary) or read_codes_manifest(folder) is None:
        return "–"
    return _share(ids, open_codes(folder)[0].keys())


def _codes(rows: list[tuple[str, ...]]) -> Table:
    table = empty_table("Codes", ["content", CODE_COLUMNS[0]], list(CODE_COLUMNS[1:]))
    for row in rows:
        table.add_row(*row)
    return table


def _share(ids: Vocabulary, keys: np.ndarray) -> str:
    """Of the training rows that have an id, those whose id is one of the given."""
    return f"{ids.counts[ids.lookup(keys)].sum() / max(int(ids.counts.sum()), 1):.1%}"


def _tables(experiment: Experiment, statistics: Statistics) -> Table:
    layout, dim = statistics.layout(experiment), experiment.model.embedding_dim
    table = empty_table("Model", ["table"], ["rows", "width", "parameters", "MiB"])
    for name, rows in layout.tables.items():
        table.add_row(
            name,
            f"{rows:,}",
            str(dim),
            f"{rows * dim:,}",
            f"{rows * dim * experiment.training.table_bytes / 2**20:.1f}",
        )
    model = Foundation(layout, experiment.model, experiment.training.batch_size)
    dense = sum(p.numel() for p in model.dense.parameters())
    table.add_section()
    table.add_row("dense part", "", "", f"{dense:,}", f"{dense * 4 / 2**20:.1f}")
    return table
