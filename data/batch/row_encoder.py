"""From an Arrow table of events to encoded rows: table rows for ids, catalogs joined, labels masked."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from ..arrow.beside_history import ragged_domains
from ..arrow.ids import id_keys
from ..arrow.times import ragged_ages
from ..arrow.values import floats, keep, ragged_keys, take_ragged, vector_rows
from ..config.experiment import Experiment
from ..config.sections.entities import EntityConfig
from ..contents.content_store import read_only
from ..contents.content_table import ContentTable
from ..counting.statistics import Statistics
from ..errors import UserError
from ..features.feature import Feature, FeatureColumns
from ..groups.groups import read_groups
from ..rates.parts import Place
from ..schema.column_needs import history_needs, needed_columns, time_of_events
from ..schema.groups import CANDIDATES, group_needs
from ..schema.labels import read_labels, read_weights
from ..schema.layout import HISTORY, Layout, content_key, id_key
from ..vocabulary.vocabulary import Vocabulary
from .encoded_catalogs import EncodedCatalogs, encode_catalogs
from .past_items import NONE, ItemCounts, Items
from .rate_columns import RateColumns
from .rows import Rows
from .similarity import similar_items

if TYPE_CHECKING:
    from .batch import Batch


class RowEncoder:
    """Encodes events of any domain of an experiment, with the catalogs' features, and maps the content stores.

    Attributes:
        of_training: whether what is evaluated are the training events, whose rates leave out their own labels.
        contents: name in ``Batch.vectors`` -> the content, of those that do not come with the events.
        item_counts: how often items were seen in training.
    """

    def __init__(
        self,
        experiment: Experiment,
        statistics: Statistics,
        of_training: bool = False,
        catalogs: EncodedCatalogs | None = None,
    ):
        """Opens the content stores.

        Args:
            experiment: the experiment.
            statistics: of its training events.
            of_training: whether these events are what is evaluated.
            catalogs: as of `encode_catalogs` of the same experiment and statistics; None to read them.

        Raises:
            UserError: as of `encode_catalogs`.
        """
        catalogs = encode_catalogs(experiment, statistics) if catalogs is None else catalogs
        self.experiment, self.statistics, self.of_training = experiment, statistics, of_training
        self.layout: Layout = statistics.layout(experiment)
        self.item_counts = ItemCounts.of(statistics.tables[id_key("item")].counts)
        self._entities = experiment.entities.present()
        self._row_type = np.int32 if max(self.layout.tables.values()) < 2**31 - 1 else np.int64
        self._single_at = {key: i for i, key in enumerate(self.layout.keys[: self.layout.singles])}
        self._dense_at = {name: i for i, name in enumerate(self.layout.dense)}
        self._catalogs, self._item_features = catalogs.of, catalogs.items
        self.contents: dict[str, ContentTable] = {key: store.mapped() for key, store in catalogs.stores.items()}
        for catalog in catalogs.of.values():
            for key, (vectors, rows) in catalog.given.items():
                self.contents[key] = ContentTable(read_only(vectors), catalog.index, rows)
        self._item_contents = [key for key in self.layout.contents_of.get("item", {}).values() if key in self.contents]
        rates = statistics.rates
        self._rates = RateColumns(experiment, self.layout, rates) if rates is not None else None
        self._similar = similar_items(experiment, self.layout, self.contents, statistics.directions)
        self._learns_groups = any(group_needs(experiment, name) for name in experiment.domains)
        self._target = content_key("item", target) if (target := experiment.model.target) is not None else None
        self._from_tables = {*self.contents, *self.layout.contents_of.get(HISTORY, {}).values()}

    def encode(
        self,
        domain: str,
        table: pa.Table,
        where: str,
        with_labels: bool = True,
        with_host: bool = False,
        place: Place | None = None,
    ) -> Rows:
        """Encodes rows of one domain.

        Args:
            domain: its name.
            table: at least the columns `needed_columns` lists.
            where: file and row group, for errors.
            with_labels: False leaves all labels masked, for scoring, and features with ``bias`` missing.
            with_host: adds what only metrics need: the keys of past items, and in ``host`` ``user`` and ``list`` (uint64
                keys, with ``_known``), ``item`` (table row, 0 for none),
                ``item_key``, ``bad`` and ``oracle/<task>``.
            place: of a whole row group of training, whose rates are of others' labels; None: they are of all.

        Raises:
            UserError: a bad value, with its row.
        """
        layout, config = self.layout, self.experiment.domains[domain]
        rows = table.num_rows
        out = Rows(
            domain=layout.domains.index(domain),
            singles=np.full((layout.singles, rows), -1, self._row_type).T,
            lists={key: (np.zeros(0, self._row_type), np.zeros(rows + 1, np.int64)) for key in layout.lists},
            list_weights={
                key: (np.zeros(0, np.float32), np.zeros(rows + 1, np.int64)) for key in layout.weighted_lists
            },
            dense=np.zeros((len(layout.dense), rows), np.float32).T,
            vectors={},
            vector_present={},
            content_rows={},
            history={},
            id_counts=np.full((rows, len(layout.entities)), -1, np.float32),
            labels=np.zeros((rows, len(layout.tasks)), np.float32),
            label_mask=np.zeros((rows, len(layout.tasks)), bool),
            chosen=np.zeros(rows, bool),
            weights=np.ones((rows, len(layout.tasks)), np.float32) if layout.weighted else None,
        )
        for name, entity in self._entities.items():
            self._encode_entity(out, name, entity, None if config.lacks(name) else table, where)
        event_features = self.experiment.context | config.features
        if not with_labels:
            event_features = {name: feature for name, feature in event_features.items() if not feature.bias}
        self._put(out, self._encode_features(event_features, table, where), None)
        if self._rates is not None:
            self._rates.put(out, table, place)
        self._empty_vectors(out)
        self._encode_history(out, domain, table, where, with_host)
        out.chosen = (out.singles[:, self._single_at[id_key("item")]] >= 0) & config.users
        taken = np.full(rows, not config.tasks)
        if with_labels:
            for task_name, task in config.tasks.items():
                at = layout.tasks.index(task_name)
                values = read_labels(config, task_name, table)
                present = out.label_mask[:, at] = ~np.isnan(values)
                out.labels[:, at] = np.where(present, values, 0)
                of_task = present & task.taken(out.labels[:, at])
                if (weights := read_weights(config, task_name, table)) is not None:
                    assert out.weights is not None
                    out.weights[:, at] = weights
                    of_task &= weights > 0
                taken |= of_task
        out.chosen &= taken
        if self._learns_groups and with_labels and CANDIDATES in table.column_names:
            codes_of = None if self._target is None else self.contents[self._target].rows
            out.groups = read_groups(table, where, self.statistics.tables[id_key("item")].lookup, codes_of)
        if with_host:
            self._encode_host(out, domain, table)
        return out

    def _encode_entity(self, out: Rows, name: str, entity: EntityConfig, table: pa.Table | None, where: str) -> None:
        rows = len(out)
        if table is None:
            keys, valid = np.zeros(rows, np.uint64), np.zeros(rows, bool)
        else:
            keys, valid = id_keys(table[entity.id])
        if name in self.layout.entities:
            ids = self.statistics.tables[id_key(name)]
            found = ids.lookup(keys)
            out.singles[:, self._single_at[id_key(name)]] = np.where(valid, found, -1)
            out.id_counts[:, self.layout.entities.index(name)] = np.where(valid, ids.counts[found], -1)
        if name in self._catalogs:
            at = np.where(valid, self._catalogs[name].index.lookup(keys), -1)
            self._put(out, self._catalogs[name].columns, at)
        for key in self.layout.contents_of.get(name, {}).values():
            if key in self.contents:
                out.content_rows[key] = self.contents[key].rows(keys, valid)
        if table is None:
            return
        features = {n: f for n, f in entity.features.items() if not entity.comes_from_catalog(f)}
        self._put(out, self._encode_features(features, table, where), None)
        for content_name, content in entity.given(in_catalog=False).items():
            if (key := content_key(name, content_name)) in self.layout.vectors:
                at = f"{where}: column '{content.vector}'"
                out.vectors[key], out.vector_present[key] = vector_rows(table[content.vector], content.size, at)

    def contents_of(self, entity: str) -> list[ContentTable]:
        """The contents of an entity that do not come with the events, and whose vectors are numbers, not codes."""
        names = self.layout.contents_of.get(entity, {}).values()
        return [self.contents[key] for key in names if key in self.contents and key not in self.layout.codes]

    def assemble(self, parts: Sequence[Rows], padded: int, candidates: Items = NONE) -> "Batch":
        """One batch of encoded rows; arguments as of `assemble.assemble`."""
        from .assemble import assemble  # TorchRec comes with it, which what checks and counts does not wait for

        vectors = {key: content.vectors for key, content in self.contents.items()}
        features, target = self._item_features, self._target
        return assemble(parts, self.layout, vectors, padded, self.item_counts, candidates, features, target)

    def no_rows(self) -> Rows:
        """Nothing, encoded: a batch without rows takes part in lookups all the same."""
        name = self.layout.domains[0]
        needs = needed_columns(self.experiment, name, with_labels=False)
        return self.encode(name, pa.table({need.name: pa.nulls(0) for need in needs}), "no rows", with_labels=False)

    def items(self, trained: bool) -> Items:
        """All items there are: those with a row of their own, then what else the catalog has.

        Args:
            trained: those seen in training alone.

        Raises:
            UserError: there is no catalog, and ids that are hashed cannot be told from their rows.
        """
        table, entity = self.statistics.tables[id_key("item")], self.experiment.entities.item
        keys = table.keys if isinstance(table, Vocabulary) else np.zeros(0, np.uint64)
        if entity.catalog is not None:
            listed = self._catalogs["item"].keys
            keys = np.concatenate([keys, listed[table.lookup(listed) == 0] if len(keys) else listed])
        elif not isinstance(table, Vocabulary):
            raise UserError(
                "experiment: entities.item",
                "has encoding hash and no catalog, so the set of items is unknown",
                "Give it a catalog with one row per item, or encoding: vocab.",
            )
        rows = table.lookup(keys).astype(np.int64)
        content_rows = {key: self.contents[key].rows(keys) for key in self._item_contents}
        catalog = self._catalogs.get("item")
        catalog_rows = catalog.index.lookup(keys).astype(np.int64) if catalog else np.full(len(keys), -1)
        items = Items(keys, rows, table.counts[rows].astype(np.float32), content_rows, catalog_rows)
        return items.take(items.counts > 0) if trained else items

    def _encode_history(self, out: Rows, domain: str, table: pa.Table, where: str, with_keys: bool) -> None:
        history = self.experiment.entities.user.history
        if history is None:
            return
        if self.experiment.domains[domain].lacks("user"):
            table = pa.table({need.name: pa.nulls(len(out)) for need in history_needs(self.experiment, history)})
        keys, offsets = ragged_keys(table[history.column], history.max_length)
        found = self.statistics.tables[id_key("item")].lookup(keys)
        for key, similar in self._similar.items():
            similar.tell(out, key, (self.contents[key].rows(keys), offsets))
        if self.layout.past:  # one by one: an item never seen keeps its place
            out.lists[HISTORY] = found, offsets
            if with_keys:
                out.history["keys"] = keys.view(np.int64), offsets
            items, most = table[history.column], history.max_length
            if self.experiment.model.past_times:
                assert history.times is not None  # `load` has seen to it
                time = time_of_events(self.experiment, domain)
                events = table[time] if time is not None else None
                at = f"{where}: column '{history.times}'"
                out.history["ages"] = ragged_ages(items, table[history.times], events, most, at)
            if history.domains is not None:
                at = f"{where}: column '{history.domains}'"
                out.history["domains"] = ragged_domains(items, table[history.domains], self.layout.domains, most, at)
            if self._item_features is not None:
                out.history["catalog"] = self._catalogs["item"].index.lookup(keys).astype(np.int64), offsets
            for key in self._item_contents:
                out.history[key] = self.contents[key].rows(keys), offsets
            return
        out.lists[HISTORY] = keep(found, offsets, found > 0)
        for key in self._item_contents:
            rows = self.contents[key].rows(keys)
            out.history[key] = keep(rows, offsets, rows >= 0)

    def _encode_features(self, features: Mapping[str, Feature], table: pa.Table, where: str) -> FeatureColumns:
        out = FeatureColumns()
        for name, feature in features.items():
            out.add(feature.encode(name, table, where, self.statistics))
        return out

    def _put(self, out: Rows, columns: FeatureColumns, at: np.ndarray | None) -> None:
        """Writes feature columns into ``out``; ``at`` picks catalog rows, -1 being an entity not in the catalog."""

        def pick(values: np.ndarray, missing) -> np.ndarray:
            if at is None:
                return values
            shape = (-1,) + (1,) * (values.ndim - 1)
            return np.where((at >= 0).reshape(shape), values[np.maximum(at, 0)], missing)

        for key, values in columns.singles.items():
            out.singles[:, self._single_at[key]] = pick(values, -1)
        for into, given in ((out.lists, columns.lists), (out.list_weights, columns.weights)):
            for key, ragged in given.items():
                into[key] = ragged if at is None else take_ragged(*ragged, at)
        for name, values in columns.dense.items():
            out.dense[:, self._dense_at[name]] = pick(values, 0)
        for key, (values, present) in columns.vectors.items():
            out.vectors[key], out.vector_present[key] = pick(values, np.float32(0)), pick(present, False)

    def _empty_vectors(self, out: Rows) -> None:
        """Vectors that this domain lacks are all missing."""
        for key, size in self.layout.vectors.items():
            if key not in out.vectors and key not in self._from_tables:
                out.vectors[key] = np.zeros((len(out), size), np.float32)
                out.vector_present[key] = np.zeros(len(out), bool)

    def _encode_host(self, out: Rows, domain: str, table: pa.Table) -> None:
        config = self.experiment.domains[domain]
        user = self.experiment.entities.user.id if config.users else None
        for name, column in (("user", user), ("list", config.list_column)):
            nothing = (np.zeros(len(out), np.uint64), np.zeros(len(out), bool))
            out.host[name], out.host[f"{name}_known"] = id_keys(table[column]) if column else nothing
        out.host["bad"] = np.zeros(len(out), bool)  # the reader knows better
        out.host["item_key"], _ = id_keys(table[self.experiment.entities.item.id])
        out.host["item"] = np.maximum(out.singles[:, self._single_at[id_key("item")]], 0)
        # Every batch has the same columns, whichever domains are in it: an expectation a domain lacks is unknown.
        for of_domain in self.experiment.domains.values():
            for task_name, task in of_domain.tasks.items():
                if task.oracle:
                    out.host.setdefault(f"oracle/{task_name}", np.full(len(out), np.nan))
        for task_name, task in config.tasks.items():
            if task.oracle:
                out.host[f"oracle/{task_name}"] = floats(table[task.oracle])
