"""What the counting pass gives: vocabularies, counts, means and deviations, and what keeps them in a run."""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from ..config.experiment import Experiment
from ..config.sections.task import Scale
from ..contents.content_store import sha256_of_file
from ..contents.leading_directions import Directions
from ..errors import UserError
from ..events.bad_rows import Skipped
from ..rates.columns import in_folds
from ..rates.rates import Rates
from ..rates.saved_rates import RatesDocument, load_rates, save_rates
from ..schema.layout import Layout, id_key, make_layout
from ..storage.json_documents import Shape, read_document, sum_of
from ..vocabulary.encoding import TABLES
from ..vocabulary.key_counts import Table
from ..vocabulary.managed import ManagedIds
from ..vocabulary.mapped import Lookup, load_mapped, save_mapped
from ..vocabulary.vocabulary import Vocabulary
from .list_marks import ListMarks

STATISTICS, SKIPPED, LISTS = "statistics.json", "skipped_rows.parquet", "lists_of_{}.npy"
DIRECTIONS, ITEMS = "directions_of_{}.npy", "items_of_{}.npy"
REMEDY = "Restore the run from a copy, or train it again."

_Count = Annotated[int, Field(ge=0)]
_Moments = tuple[Annotated[float, Field(allow_inf_nan=False)], Annotated[float, Field(gt=0)]]


class _Document(Shape):
    """``statistics.json``."""

    tables: dict[Annotated[str, Field(pattern=r"^[^/\x00]+$")], Literal["vocab", "hash", "managed", "buckets"]]
    dense: dict[str, _Moments]
    labels: dict[str, dict[str, tuple[_Count, Annotated[float, Field(allow_inf_nan=False)]]]]
    rows: dict[str, _Count]
    text_sizes: dict[str, Annotated[int, Field(ge=1)]]  # of all content stores
    skipped: dict[str, _Count]
    profiles: dict[str, list[float]]
    id_types: dict[str, Literal["string", "integer"]] = Field(default_factory=dict)
    unsigned: list[str] = Field(default_factory=list)
    outcomes: dict[str, dict[str, tuple[_Count, _Count]]] = Field(default_factory=dict)
    scales: dict[str, _Moments] = Field(default_factory=dict)
    lists: dict[str, Annotated[int, Field(ge=1)]] = Field(default_factory=dict)
    rate_columns: list[str] = Field(default_factory=list)
    rates: RatesDocument | None = None
    lookups: dict[str, Lookup] = Field(default_factory=dict)
    codes: dict[str, Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]] = Field(default_factory=dict)
    directions: list[str] = Field(default_factory=list)  # of which contents there is such a file
    items: list[str] = Field(default_factory=list)  # of which domains there is such a file
    sha256: dict[Annotated[str, Field(pattern=r"^[^/]+$")], str] = Field(default_factory=dict)


@dataclass
class Statistics:
    """What training must know of the data before its first step.

    Attributes:
        tables: embedding table -> its ids.
        dense: dense feature -> (mean, deviation) after its transform.
        labels: domain -> task -> [labelled rows, sum of their labels, a whole number where it is one] in training.
        rows: domain -> rows in training.
        content_sizes: `Stored.name` of a content store -> width of its vectors.
        skipped: bad rows of training.
        profiles: domain -> what its items are about, as of `profiles.domain_profiles`.
        id_types: embedding table -> ``string`` or ``integer``, what its ids are; not of one in which all are null.
        unsigned: embedding tables whose ids are integers of 64 bits without a sign somewhere in the training events.
        outcomes: domain -> task that is given another -> [rows in which that one's label is 1, those that have the task's label, too].
        scales: task -> the scale of its labels in the training events of all domains, of those whose kind needs one.
        lists: domain -> where lists begin among its training rows, of the domains with a list loss.
        rate_columns: names of the columns of rates.
        rates: what they are made of, once that has been counted; without it they are 0.
        directions: content of items -> along what it is compared with past items'.
        codes: `Stored.name` of codes -> their identity, as of `code_store.identities`.
        items: domain -> ``[N]`` uint64 keys, increasing, of the items of its training events, where a next item is sought.
    """

    tables: dict[str, Table]
    dense: dict[str, tuple[float, float]]
    labels: dict[str, dict[str, list[float]]]
    rows: dict[str, int]
    content_sizes: dict[str, int] = field(default_factory=dict)
    skipped: Skipped = field(default_factory=Skipped)
    profiles: dict[str, list[float]] = field(default_factory=dict)
    id_types: dict[str, str] = field(default_factory=dict)
    unsigned: list[str] = field(default_factory=list)
    scales: dict[str, Scale] = field(default_factory=dict)
    lists: dict[str, ListMarks] = field(default_factory=dict)
    outcomes: dict[str, dict[str, list[int]]] = field(default_factory=dict)
    rate_columns: tuple[str, ...] = ()
    rates: Rates | None = None
    directions: dict[str, Directions] = field(default_factory=dict)
    codes: dict[str, str] = field(default_factory=dict)
    items: dict[str, np.ndarray] = field(default_factory=dict)

    def extended(self, new: "Statistics") -> "Statistics":
        """These statistics, made fit for further data: ids keep their rows and new ones come after them, dense features
        keep their means, and tasks the scale of their labels; labels, rows and what was skipped are those of the new data.

        Raises:
            UserError: an id or feature is encoded in another way than before.
        """
        tables = dict(new.tables)
        for name, before in self.tables.items():
            if name not in new.tables:
                continue
            now, table = new.tables[name], _opened(before, new.tables[name])
            if type(table) is not type(now) or not table.fits(now):
                raise UserError(
                    f"the encoding of {name}",
                    "is not the one of the run to fine-tune",
                    "Give it the same `encoding`, `buckets` and `boundaries`; managed ids need as many `rows` as there are, or more.",
                )
            tables[name] = table.extended(now)
        dense = new.dense | self.dense  # those of a domain without new rows, too
        types = new.id_types | {table: kind for table, kind in self.id_types.items() if table in tables}
        unsigned = sorted({*self.unsigned, *new.unsigned} & tables.keys())
        # What a logit stands for is the task's, as long as it has that name.
        tasks = {task for of_domain in new.labels.values() for task in of_domain}
        scales = new.scales | {task: scale for task, scale in self.scales.items() if task in tasks}
        directions = new.directions | {name: of for name, of in self.directions.items() if name in new.directions}
        known = {"id_types": types, "unsigned": unsigned, "scales": scales, "directions": directions}
        return replace(new, tables=tables, dense=dense, **known)

    def layout(self, experiment: Experiment) -> Layout:
        """The layout of this experiment's batches."""
        rows = {name: table.rows for name, table in self.tables.items()}
        folds = bool(self.rate_columns) and in_folds(experiment)
        return make_layout(experiment, rows, self.content_sizes, self.scales, self.rate_columns, folds)

    def save(self, folder: Path) -> None:
        """Writes the vocabularies, ``statistics.json`` and, if rows were skipped, `SKIPPED` into ``folder``."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, table in self.tables.items():
            table.save(folder / f"{name}.parquet")
        plain = {
            "tables": {name: table.encoding for name, table in self.tables.items()},
            "dense": self.dense,
            "labels": self.labels,
            "rows": self.rows,
            "text_sizes": self.content_sizes,
            "skipped": self.skipped.rows,
            "profiles": self.profiles,
            "id_types": self.id_types,
            "unsigned": self.unsigned,
            "outcomes": self.outcomes,
            "scales": self.scales,
            "rate_columns": list(self.rate_columns),
            "lookups": save_mapped(folder, self.tables),
        }
        if self.lists:
            plain["lists"] = {name: of_domain.longest for name, of_domain in self.lists.items()}
        for name, of_domain in self.lists.items():
            np.save(folder / LISTS.format(name), of_domain.begins)
        if self.rates is not None:
            plain["rates"] = save_rates(folder, self.rates)
        if self.directions:
            plain["directions"] = list(self.directions)
        if self.codes:
            plain["codes"] = self.codes
        if self.items:
            plain["items"] = list(self.items)
        for name, of_domain in self.items.items():
            np.save(folder / ITEMS.format(name), of_domain)
        for name, of_content in self.directions.items():
            np.save(folder / DIRECTIONS.format(name), of_content)
        self.skipped.save(folder / SKIPPED)
        files = sorted([*folder.glob("*.parquet"), *folder.glob("*.npy")])
        sums = {path.name: sha256_of_file(path) for path in files}
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
        mapped = load_mapped(folder, plain["lookups"], plain["tables"]) if plain.get("lookups") else {}
        tables = {
            name: mapped[name] if name in mapped else TABLES[way].load(folder / f"{name}.parquet")
            for name, way in plain["tables"].items()
        }
        dense = {name: (mean, deviation) for name, (mean, deviation) in plain["dense"].items()}
        skipped = Skipped(plain["skipped"])
        known = (plain["labels"], plain["rows"], plain["text_sizes"], skipped, plain["profiles"])
        scales = {task: Scale(*scale) for task, scale in plain.get("scales", {}).items()}
        outcomes = {
            name: {task: list(rows) for task, rows in of.items()} for name, of in plain.get("outcomes", {}).items()
        }
        lists = {name: _marks(folder, name, longest) for name, longest in plain.get("lists", {}).items()}
        rates = load_rates(folder, plain["rates"]) if "rates" in plain else None
        columns = tuple(plain.get("rate_columns", ()))
        directions = {
            name: np.load(folder / DIRECTIONS.format(name), allow_pickle=False) for name in plain.get("directions", [])
        }
        types = plain.get("id_types", {}), plain.get("unsigned", [])
        codes = plain.get("codes", {})
        items = {
            name: np.load(folder / ITEMS.format(name), mmap_mode="r", allow_pickle=False)
            for name in plain.get("items", [])
        }
        return cls(tables, dense, *known, *types, scales, lists, outcomes, columns, rates, directions, codes, items)

    def check_fits(self, experiment: Experiment, folder: Path) -> None:
        """Makes sure that they are of an experiment's tables, features, domains and tasks.

        Raises:
            UserError: something is missing; ``folder`` is where they were read.
        """
        entities = experiment.entities.present()
        owners = [owner.features for owner in (*entities.values(), *experiment.domains.values())]
        features = [pair for some in (*owners, experiment.context) for pair in some.items()]
        counted = {key for name, feature in features for key in feature.inputs(name).keys}
        counted |= {id_key(name) for name in experiment.looked_up()}
        tasks = [pair for domain in experiment.domains.values() for pair in domain.tasks.items()]
        wanted = {
            "tables": (counted, self.tables),
            "labels": (set(experiment.domains), self.labels),
            "rows": (set(experiment.domains), self.rows),
            "lists": ({name for name, domain in experiment.domains.items() if domain.whole_lists}, self.lists),
            "scales": ({name for name, task in tasks if task.scaled(np.zeros(0)) is not None}, self.scales),
            "directions": (set(experiment.compared()) if experiment.model.similarity else set(), self.directions),
            "text_sizes": ({of.name for of in experiment.stores_read()}, self.content_sizes),
            "codes": ({of.name for of in experiment.coded()}, self.codes),
        }
        for where, (names, held) in wanted.items():
            for name in sorted(names - held.keys()):
                raise UserError(folder / STATISTICS, f"says nothing of '{name}' in {where}", REMEDY)
        if len({len(profile) for profile in self.profiles.values()}) > 1:
            raise UserError(folder / STATISTICS, "has profiles of several lengths", REMEDY)


def _opened(table: Table, now: Table) -> Table:
    """A table in the way of the new one: a vocabulary that grows goes on as managed ids, where there are rows for all."""
    if isinstance(now, ManagedIds) and isinstance(table, Vocabulary):
        return now.following(table) or table
    return table


def _marks(folder: Path, name: str, longest: int) -> ListMarks:
    """Mapped, so that the ranks of a machine share them; they have just been found to be what was written."""
    return ListMarks(np.load(folder / LISTS.format(name), mmap_mode="r", allow_pickle=False), longest)
