"""The catalogs as rows are encoded with them: the same for all ranks, which only read them."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..arrow.ids import id_keys
from ..arrow.values import vector_rows
from ..catalogs.catalog import read_catalog_features
from ..codes.code_store import OpenedCodes, open_coded
from ..config.experiment import Experiment
from ..config.sections.entities import EntityConfig
from ..counting.statistics import Statistics
from ..features.feature import FeatureColumns
from ..schema.layout import Layout, content_key
from ..vocabulary.vocabulary import KeyIndex
from .contents import OpenedStore, open_stores
from .item_features import ItemFeatures


@dataclass(frozen=True)
class EncodedCatalog:
    """One entity's catalog.

    Attributes:
        keys: ``[N]`` uint64 id keys.
        index: of the keys.
        columns: features, of the catalog's rows.
        given: name in ``Batch.vectors`` of a content that the catalog holds -> its vectors ``[N, size]`` float32, and ``[N]`` int64 the
            row of each key; -1 for none.
    """

    keys: np.ndarray
    index: KeyIndex
    columns: FeatureColumns
    given: Mapping[str, tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class EncodedCatalogs:
    """The catalogs of all entities, and which ids have a vector in which content store. NumPy arrays alone grow with them.

    Attributes:
        of: entity -> its catalog, of those that have one.
        items: features of past items and of candidates, per row of the item catalog; None where none are in use.
        stores: name in ``Batch.vectors`` -> the store of the content, or of its codes.
    """

    of: Mapping[str, EncodedCatalog]
    items: ItemFeatures | None
    stores: Mapping[str, OpenedStore | OpenedCodes]


def encode_catalogs(experiment: Experiment, statistics: Statistics) -> EncodedCatalogs:
    """Reads and encodes all catalogs, and the ids of the content stores that the model reads.

    Args:
        experiment: the experiment.
        statistics: of its training events.

    Raises:
        UserError: a bad catalog, or a content store that is absent or was made from other contents.
    """
    layout = statistics.layout(experiment)
    stores = open_stores(experiment) | open_coded(experiment, statistics.codes)
    entities = experiment.entities.present()
    catalogs = {name: _encoded(name, entity, statistics, layout) for name, entity in entities.items() if entity.catalog}
    item = catalogs.get("item")
    return EncodedCatalogs(catalogs, ItemFeatures.of(layout, item.columns, len(item.keys)) if item else None, stores)


def _encoded(name: str, entity: EntityConfig, statistics: Statistics, layout: Layout) -> EncodedCatalog:
    assert entity.catalog is not None
    features, table = read_catalog_features(name, entity)
    keys, _ = id_keys(table[entity.catalog.key])
    given = {}
    for content_name, content in entity.given(in_catalog=True).items():
        if (key := content_key(name, content_name)) in layout.vectors:
            where = f"{entity.catalog.path}: column '{content.vector}'"
            vectors, present = vector_rows(table[content.vector], content.size, where)
            given[key] = vectors, np.where(present, np.arange(len(vectors)), -1)
    columns = FeatureColumns()
    for feature_name, feature in features.items():
        columns.add(feature.encode(feature_name, table, entity.catalog.path, statistics))
    return EncodedCatalog(np.asarray(keys), KeyIndex(keys), columns, given)
