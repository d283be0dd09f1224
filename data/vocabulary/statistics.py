"""The counting pass: one reading of the training events gives vocabularies, counts, means and deviations."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from ..arrow.column_types import VECTOR
from ..arrow.ids import id_keys
from ..arrow.moments import add_moments, mean_deviation
from ..arrow.values import floats, numbers, ragged_keys
from ..catalogs.catalog import read_catalog_features
from ..config.experiment import Experiment
from ..config.sections.features import Encoding, FeatureConfig
from ..contents.text_store import open_text_store, sha256_of_file, text_store_folder
from ..errors import UserError
from ..events.bad_rows import Skipped, read_events
from ..events.check_events import id_types, unsigned_ids
from ..events.event_files import EventFiles
from ..prefetch import prefetch
from ..schema.bad_values import BadValue, refuse_beside, rows_of
from ..schema.column_needs import needed_columns
from ..schema.layout import Layout, feature_key, id_key, make_layout
from ..storage.json_documents import Shape, read_document, sum_of
from .key_counts import KeyCounts, Table
from .vocabulary import HashedIds, Vocabulary

STATISTICS, SKIPPED = "statistics.json", "skipped_rows.parquet"
REMEDY = "Restore the run from a copy, or train it again."

_Count = Annotated[int, Field(ge=0)]


class _Document(Shape):
    """``statistics.json``."""

    tables: dict[Annotated[str, Field(pattern=r"^[^/\x00]+$")], Literal["vocab", "hash"]]
    dense: dict[str, tuple[Annotated[float, Field(allow_inf_nan=False)], Annotated[float, Field(gt=0)]]]
    labels: dict[str, dict[str, tuple[_Count, _Count]]]
    rows: dict[str, _Count]
    text_sizes: dict[str, Annotated[int, Field(ge=1)]]
    skipped: dict[str, _Count]
    profiles: dict[str, list[float]]
    id_types: dict[str, Literal["string", "integer"]] = Field(default_factory=dict)
    unsigned: list[str] = Field(default_factory=list)
    sha256: dict[Annotated[str, Field(pattern=r"^[^/]+$")], str] = Field(default_factory=dict)


@dataclass
class Statistics:
    """What training must know of the data before its first step.

    Attributes:
        tables: embedding table -> its ids.
        dense: dense feature -> (mean, deviation) after its transform.
        labels: domain -> task -> [labelled rows, positives] in training.
        rows: domain -> rows in training.
        text_sizes: entity -> width of its text vectors.
        skipped: bad rows of training.
        profiles: domain -> what its items are about, as of `profiles.domain_profiles`.
        id_types: embedding table -> ``string`` or ``integer``, what its ids are; not of one in which all are null.
        unsigned: embedding tables whose ids are integers of 64 bits without a sign somewhere in the training events.
    """

    tables: dict[str, Table]
    dense: dict[str, tuple[float, float]]
    labels: dict[str, dict[str, list[int]]]
    rows: dict[str, int]
    text_sizes: dict[str, int] = field(default_factory=dict)
    skipped: Skipped = field(default_factory=Skipped)
    profiles: dict[str, list[float]] = field(default_factory=dict)
    id_types: dict[str, str] = field(default_factory=dict)
    unsigned: list[str] = field(default_factory=list)

    def extended(self, new: "Statistics") -> "Statistics":
        """These statistics, made fit for further data: ids keep their rows and new ones come after them, dense features
        keep their means; labels, rows and what was skipped are those of the new data.

        Raises:
            UserError: an id or feature is encoded in another way than before.
        """
        tables = dict(new.tables)
        for name, table in self.tables.items():
            if name not in new.tables:
                continue
            if type(table) is not type(new.tables[name]) or (
                isinstance(table, HashedIds) and table.rows != new.tables[name].rows
            ):
                raise UserError(
                    f"the encoding of {name}",
                    "is not the one of the run to fine-tune",
                    "Give it the same `encoding` and `buckets`.",
                )
            tables[name] = table.extended(new.tables[name])  # type: ignore[arg-type]
        dense = new.dense | {n: m for n, m in self.dense.items() if n in new.dense}
        types = new.id_types | {table: kind for table, kind in self.id_types.items() if table in tables}
        unsigned = sorted({*self.unsigned, *new.unsigned} & tables.keys())
        return replace(new, tables=tables, dense=dense, id_types=types, unsigned=unsigned)

    def layout(self, experiment: Experiment) -> Layout:
        """The layout of this experiment's batches."""
        return make_layout(experiment, {name: table.rows for name, table in self.tables.items()}, self.text_sizes)

    def save(self, folder: Path) -> None:
        """Writes the vocabularies, ``statistics.json`` and, if rows were skipped, `SKIPPED` into ``folder``."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, table in self.tables.items():
            table.save(folder / f"{name}.parquet")
        kinds = {name: "hash" if isinstance(table, HashedIds) else "vocab" for name, table in self.tables.items()}
        plain = {
            "tables": kinds,
            "dense": self.dense,
            "labels": self.labels,
            "rows": self.rows,
            "text_sizes": self.text_sizes,
            "skipped": self.skipped.rows,
            "profiles": self.profiles,
            "id_types": self.id_types,
            "unsigned": self.unsigned,
        }
        self.skipped.save(folder / SKIPPED)
        sums = {path.name: sha256_of_file(path) for path in sorted(folder.glob("*.parquet"))}
        plain["sha256"] = sums | {STATISTICS: sum_of(plain)}
        (folder / STATISTICS).write_text(json.dumps(plain, indent=1), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> "Statistics":
        """Reads what `save` wrote.

        Raises:
            UserError: a file is missing or damaged.
        """
        plain = read_document(folder / STATISTICS, _Document, REMEDY)
        if plain is None:
            raise UserError(folder / STATISTICS, "is missing", REMEDY)
        sums = plain.pop("sha256", {})  # runs of older versions have none
        if sums and sums.get(STATISTICS) != sum_of(plain):
            raise UserError(folder / STATISTICS, "is damaged: it is not what was written", REMEDY)
        for name in sums.keys() - {STATISTICS}:
            if sha256_of_file(folder / name) != sums[name]:
                raise UserError(folder / name, "is damaged: it is missing, or not what was written", REMEDY)
        read = {"hash": HashedIds.load, "vocab": Vocabulary.load}
        tables = {name: read[kind](folder / f"{name}.parquet") for name, kind in plain["tables"].items()}
        dense = {name: (mean, deviation) for name, (mean, deviation) in plain["dense"].items()}
        skipped = Skipped(plain["skipped"])
        known = (plain["labels"], plain["rows"], plain["text_sizes"], skipped, plain["profiles"])
        return cls(tables, dense, *known, plain.get("id_types", {}), plain.get("unsigned", []))

    def check_fits(self, experiment: Experiment, folder: Path) -> None:
        """Makes sure that they are of an experiment's tables, features, domains and tasks.

        Raises:
            UserError: something is missing; ``folder`` is where they were read.
        """
        entities = experiment.entities.present()
        owners = [owner.features for owner in (*entities.values(), *experiment.domains.values())]
        features = [pair for some in (*owners, experiment.context) for pair in some.items()]
        counted = {feature_key(name) for name, feature in features if feature.kind in ("categorical", "list")}
        counted |= {id_key(name) for name in entities}
        wanted = {
            "tables": (counted, self.tables),
            "labels": (set(experiment.domains), self.labels),
            "rows": (set(experiment.domains), self.rows),
            "text_sizes": (
                set(experiment.entities.with_text()) if "text" in experiment.model.aspects else set(),
                self.text_sizes,
            ),
        }
        for where, (names, held) in wanted.items():
            for name in sorted(names - held.keys()):
                raise UserError(folder / STATISTICS, f"says nothing of '{name}' in {where}", REMEDY)
        if len({len(profile) for profile in self.profiles.values()}) > 1:
            raise UserError(folder / STATISTICS, "has profiles of several lengths", REMEDY)


def count(
    experiment: Experiment,
    train: Mapping[str, EventFiles],
    progress: Callable[[int], None] = lambda rows: None,
) -> Statistics:
    """Reads the training events once, one row group at a time.

    Memory grows with the number of distinct ids, not with the number of rows.

    Args:
        experiment: the experiment.
        train: domain -> its training files.
        progress: called with the number of rows just counted.

    Raises:
        UserError: a bad catalog, a bad dense value, or more bad rows than `bad_data` allows.
    """
    skipped = Skipped()
    ids: dict[str, KeyCounts] = {}
    sums: dict[str, np.ndarray] = {}
    labels: dict[str, dict[str, list[int]]] = {}
    features: dict[str, dict[str, FeatureConfig]] = {}
    for name in train:
        labels[name] = {task: [0, 0] for task in experiment.domains[name].tasks}
        features[name] = {n: f for n, f in _event_features(experiment, name).items() if f.kind != "vector"}
    # Ahead of the counting, which takes as long as decoding.
    for name, path, group, table, bad in prefetch(_read_all(experiment, train), 2):
        if bad:
            skipped.add(name, path, group, bad)
            skipped.check(name, train[name].rows, experiment.bad_data)
            table = table.filter(pa.array(~rows_of(bad, table.num_rows)))
        for entity_name, entity in experiment.entities.present().items():
            if entity.id in table.column_names:
                _counter(ids, id_key(entity_name), entity).add(*id_keys(table[entity.id]))
        if (objective := experiment.model.next_item) is not None and objective.positions == "all":
            # Past items are then learned from as the row's own is.
            history = experiment.entities.user.history
            assert history is not None  # `load` has seen to it
            keys, _ = ragged_keys(table[history.column], history.max_length)
            _counter(ids, id_key("item"), experiment.entities.item).add(keys, np.ones(len(keys), bool))
        for feature_name, feature in features[name].items():
            column = table[feature.column_name(feature_name)]
            where = f"{path}: column '{feature.column_name(feature_name)}', row group {group}"
            _add_feature(ids, sums, feature_name, feature, column, where)
        for task_name, task in experiment.domains[name].tasks.items():
            values = floats(table[task.label])
            labels[name][task_name][0] += int((~np.isnan(values)).sum())
            labels[name][task_name][1] += int(np.nansum(values))
        progress(table.num_rows)
    for entity_name, entity in experiment.entities.present().items():
        _counter(ids, id_key(entity_name), entity)  # an entity no event names still has its (empty) table
    tables = {name: counter.table() for name, counter in ids.items()}
    tables |= _count_catalogs(experiment, ids, sums)
    for name, feature in _all_event_features(experiment).items():
        if feature.kind in ("categorical", "list") and feature_key(name) not in tables:
            tables[feature_key(name)] = KeyCounts(feature).table()
    sizes = {
        name: open_text_store(text_store_folder(experiment, name)).size
        for name in experiment.entities.with_text()
        if "text" in experiment.model.aspects
    }
    rows = {name: files.rows for name, files in train.items()}
    dense = {name: mean_deviation(s) for name, s in sums.items()}
    types, unsigned = id_types(experiment, train), unsigned_ids(experiment, train)
    return Statistics(tables, dense, labels, rows, sizes, skipped, id_types=types, unsigned=unsigned)


def _read_all(
    experiment: Experiment, train: Mapping[str, EventFiles]
) -> Iterator[tuple[str, str, int, pa.Table, list[BadValue]]]:
    """Domain, file, row group, its rows and what is bad in them; without vectors, unless bad ones are to be counted."""
    policy = experiment.bad_data
    for name, files in train.items():
        needs = [need for need in needed_columns(experiment, name) if policy.skips or need.holds != VECTOR]
        for path, group in files.row_groups:
            table, bad = read_events(path, group, needs, policy)
            if not policy.skips:
                refuse_beside(table, needs, f"{path}: row group {group}")
            yield name, path, group, table, bad


def _event_features(experiment: Experiment, domain: str) -> dict[str, FeatureConfig]:
    features: dict[str, FeatureConfig] = {}
    for name, entity in experiment.entities.present().items():
        if name == "query" and experiment.domains[domain].kind == "recommendation":
            continue
        features |= {n: f for n, f in entity.features.items() if not entity.comes_from_catalog(f)}
    return features | experiment.context | experiment.domains[domain].features


def _all_event_features(experiment: Experiment) -> dict[str, FeatureConfig]:
    return {
        name: feature for domain in experiment.domains for name, feature in _event_features(experiment, domain).items()
    }


def _counter(ids: dict[str, "KeyCounts"], name: str, encoding: Encoding) -> "KeyCounts":
    return ids.setdefault(name, KeyCounts(encoding))


def _add_feature(
    ids, sums, name: str, feature: FeatureConfig, column, where: str, weights: np.ndarray | None = None
) -> None:
    if feature.kind == "categorical":
        keys, valid = id_keys(column)
        _counter(ids, feature_key(name), feature).add(keys, valid, weights)
    elif feature.kind == "list":
        keys, offsets = ragged_keys(column, feature.max_length)
        repeated = None if weights is None else np.repeat(weights, np.diff(offsets))
        _counter(ids, feature_key(name), feature).add(keys, np.ones(len(keys), bool), repeated)
    elif feature.kind == "dense":
        values = numbers(column, feature, where)
        values = values[~np.isnan(values) & (weights > 0 if weights is not None else True)]
        sums[name] = add_moments(sums.get(name, np.zeros(3)), values)


def _count_catalogs(
    experiment: Experiment, ids: dict[str, "KeyCounts"], sums: dict[str, np.ndarray]
) -> dict[str, Table]:
    """Counts catalog features as often as training events show them, so that rare means rare in training."""
    counters: dict[str, KeyCounts] = {}
    for entity_name, entity in experiment.entities.present().items():
        if entity.catalog is None:
            continue
        features, catalog = read_catalog_features(entity_name, entity)
        # Every id counts here, also those too rare for a row of their own: a common brand may have only rare items.
        id_table = ids[id_key(entity_name)].table(min_count=1)
        weights = id_table.counts[id_table.lookup(id_keys(catalog[entity.catalog.key])[0])]
        for name, feature in features.items():
            column = feature.column_name(name)
            where = f"{entity.catalog.path}: column '{column}'"
            _add_feature(counters, sums, name, feature, catalog[column], where, weights)
    return {name: counter.table() for name, counter in counters.items()}
