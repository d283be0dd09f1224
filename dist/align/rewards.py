"""What says how good candidates are: a run's scores, hits, a table, or noise."""

from collections.abc import Callable
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ...data.arrow.column_need import ColumnNeed
from ...data.arrow.column_types import NUMBER, SCALAR_ID
from ...data.arrow.ids import id_keys, mix
from ...data.arrow.values import floats, ragged_lists
from ...data.config.experiment import Experiment
from ...data.errors import UserError
from ...data.events.event_files import open_parquet, read_group
from ...data.schema.column_needs import IdTypes, SchemaCheck
from ...data.schema.groups import CANDIDATES, REFERENCE, REWARD
from ...data.schema.layout import id_key
from ...data.storage import storage
from ...data.storage.mirror import mirrored
from ...data.vocabulary.vocabulary import KeyIndex
from ..ranks.runtime import Runtime
from ..retrieval.retrieval import Retriever
from ..score.recommend import ROWS
from ..score.score import RowScorer, model_of
from ..score.scoring_input import ROWS_AT_A_TIME, ScoringJob
from .reward_spec import HITS, RewardSpec

_NOISE, _NOBODY = np.uint64(0x6E6F697365), np.uint64(0x9E3779B97F4A7C15)


class Rewards(Protocol):
    """Gives candidates of rows their rewards.

    Attributes:
        rows: at a time.
        replicated: whether it needs no other rank.
    """

    rows: int
    replicated: bool

    def of(self, table: pa.Table, where: str) -> NDArray[np.float64]:
        """``[total]`` rewards of all candidates of some rows, at most ``rows`` of them, one after another; NaN for none."""
        ...

    def idle(self, times: int) -> None:
        """Rewards nothing, as often as another rank still does."""
        ...


class OfPairs:
    """Rewards that follow from the keys of users, of candidates and of the rows' own items."""

    rows, replicated = ROWS, True

    def __init__(self, experiment: Experiment, value: Callable[[NDArray, NDArray, NDArray], NDArray[np.float64]]):
        """Args: the generator's experiment; and ``[total]`` uint64 keys each -> ``[total]``."""
        self._user, self._item, self._value = experiment.entities.user.id, experiment.entities.item.id, value

    def of(self, table: pa.Table, where: str) -> NDArray[np.float64]:
        """As of `Rewards`."""
        ids, offsets = ragged_lists(table[CANDIDATES])
        many = np.diff(offsets)
        user, own = (np.repeat(_keys(table[name]), many) for name in (self._user, self._item))
        return self._value(user, id_keys(ids)[0], own)

    def idle(self, times: int) -> None:
        """As of `Rewards`."""


def _keys(ids: pa.ChunkedArray) -> NDArray[np.uint64]:
    """As of `id_keys`; where null, one that is nobody's."""
    keys, valid = id_keys(ids)
    return np.where(valid, keys, _NOBODY)


def is_own(user: NDArray, candidate: NDArray, own: NDArray) -> NDArray[np.float64]:
    """1 for the item that the user took next, else 0."""
    return (candidate == own).astype(np.float64)


def noise(user: NDArray, candidate: NDArray, own: NDArray) -> NDArray[np.float64]:
    """From 0 to 1, evenly, anew for each row, which its user and own item tell from others: nothing of it holds for any other row."""
    return (mix(mix(mix(user ^ _NOISE) + own) ^ candidate) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def check_table(path: str, experiment: Experiment, types: IdTypes) -> None:
    """Makes sure that a Parquet file has users, items and rewards.

    Args:
        path: of the file.
        experiment: the generator's.
        types: of its ids.

    Raises:
        UserError: there is no such file, it lacks a column, one is of another type, or a pair is there twice.
    """
    user, item = experiment.entities.user.id, experiment.entities.item.id
    if not storage.is_file(path):
        raise UserError(path, "no such file", "Give a Parquet file of rewards, a run, hits or noise as --reward.")
    ids = [
        ColumnNeed(column, SCALAR_ID, "--reward", table=id_key(of)) for of, column in (("user", user), ("item", item))
    ]
    SchemaCheck([*ids, ColumnNeed(REWARD, NUMBER, "--reward")], types).check(path, open_parquet(path).schema_arrow)
    table = _read(path, experiment)
    pairs = _pairs(id_keys(table[user])[0], id_keys(table[item])[0])
    _, first, of_pair, many = np.unique(pairs, return_index=True, return_inverse=True, return_counts=True)
    if len(twice := np.flatnonzero(many > 1)):
        at = int(first[twice].min())
        names = f"user {table[user][at]} and item {table[item][at]}"
        what = f"has {many[of_pair[at]]} rewards of {names}"
        raise UserError(path, what, "Give each pair one reward, e.g. their mean.")


def _read(path: str, experiment: Experiment) -> pa.Table:
    """The rows of a table of rewards that name a user and an item.

    Raises:
        UserError: there are none.
    """
    user, item = experiment.entities.user.id, experiment.entities.item.id
    groups = range(open_parquet(path).num_row_groups)
    tables = [read_group(path, group, [user, item, REWARD]) for group in groups]
    table = (
        pa.concat_tables(tables).filter(pc.is_valid(pc.field(user)) & pc.is_valid(pc.field(item))) if tables else None
    )
    if table is None or not table.num_rows:
        raise UserError(path, "has no reward of a user and an item", "Write a row for each pair.")
    return table


class OfTable:
    """Rewards that a Parquet file has of users and items; NaN for a pair that is not in it."""

    def __init__(self, path: str, experiment: Experiment):
        """Reads the file, of which `check_table` has found nothing wrong."""
        table, entities = _read(path, experiment), experiment.entities
        self._index = KeyIndex(_pairs(id_keys(table[entities.user.id])[0], id_keys(table[entities.item.id])[0]))
        self._values = np.append(floats(table[REWARD]), np.nan)

    def __call__(self, user: NDArray, candidate: NDArray, own: NDArray) -> NDArray[np.float64]:
        """``[total]``."""
        return self._values[self._index.lookup(_pairs(user, candidate))]


def _pairs(user: NDArray, item: NDArray) -> NDArray[np.uint64]:
    return mix(mix(user) ^ item)


class OfRun:
    """The scores that a run gives pairs of user and candidate: the weighted sum of those of tasks, or that of the next item.

    All else of a row is as it is there. Of a candidate nothing is known but what catalogs say: a feature of the item that comes with the
    events is the row's own item's, and missing here.
    """

    def __init__(self, job: ScoringJob, weights: dict[str, float], parts: tuple, size: int, item: str):
        """Args: of which domain and run; weights of tasks; encoder, model, whether it is replicated, runtime and retriever; G; the
        generator's column of item ids."""
        encoder, model, self.replicated, runtime, retriever = parts
        self._domain = str(job.domain)
        self._scorer, self._encoder = RowScorer(model, encoder, runtime, job, retriever), encoder
        tasks = encoder.experiment.domains[str(job.domain)].tasks
        self._weights = {task: weight for task, weight in weights.items() if task in tasks}
        self._items = {item, encoder.experiment.entities.item.id}
        self._at_once = ROWS_AT_A_TIME // 2
        self.rows = max(1, self._at_once // size)
        self._unknown = _of_events(encoder.experiment, str(job.domain))

    def of(self, table: pa.Table, where: str) -> NDArray[np.float64]:
        """As of `Rewards`."""
        ids, offsets = ragged_lists(table[CANDIDATES])
        if not len(ids):
            self.idle(1)
            return np.zeros(0)
        pairs = table.drop_columns([CANDIDATES, REFERENCE]).take(
            pa.array(np.repeat(np.arange(table.num_rows), np.diff(offsets)))
        )
        for at, name in enumerate(pairs.column_names):
            if name in self._items:
                pairs = pairs.set_column(at, name, ids)  # whose type may be wider than that of the rows' own items
            elif name in self._unknown:
                pairs = pairs.set_column(at, name, pa.nulls(pairs.num_rows, pairs[name].type))
        scored, _ = self._scorer.score_table(pairs, where)
        names = self._weights or {name.removeprefix("score_"): 1.0 for name in self._scored(scored)}
        return sum((weight * floats(scored[f"score_{name}"]) for name, weight in names.items()), np.zeros(len(ids)))

    def idle(self, times: int) -> None:
        """As of `Rewards`."""
        for _ in range(times):
            self._scorer.idle(1, 0)

    def _scored(self, scored: pa.Table) -> list[str]:
        """Columns of what the domain is scored for: others are null in all rows."""
        names = [name for name in scored.column_names if name.startswith("score_")]
        tasks = self._encoder.experiment.domains[self._domain].tasks
        return [name for name in names if not tasks or name.removeprefix("score_") in tasks]


def _of_events(experiment: Experiment, domain: str) -> set[str]:
    """Columns of the events that say something of the row's own item."""
    item, own = experiment.entities.item, experiment.domains[domain].features
    features = {name: feature for name, feature in item.features.items() if not item.comes_from_catalog(feature)}
    features |= {name: feature for name, feature in own.items() if feature.entity == "item"}
    needs = [need for name, feature in features.items() for need in feature.needs(name, name)]
    for name, content in item.every_content().items():
        if not item.content_in_catalog(content):
            needs += content.needs(name)
    return {need.name for need in needs}


def rewards_of(
    spec: RewardSpec, experiment: Experiment, domains: list[str], size: int, runtime: Runtime
) -> dict[str, Rewards]:
    """domain -> what rewards its candidates. A collective, where a run is loaded.

    Args:
        spec: what is asked for.
        experiment: the generator's.
        domains: whose candidates are rewarded.
        size: G, at most, of candidates of a row.
        runtime: the process group.

    Raises:
        UserError: a damaged checkpoint or file.
    """
    if spec.run is not None:
        folder = mirrored(spec.run, "read")
        encoder, model, replicated = model_of(folder, runtime)
        retriever = None if encoder.layout.tasks else Retriever(model, encoder, runtime)
        parts, item = (encoder, model, replicated, runtime, retriever), experiment.entities.item.id
        policy = encoder.experiment.bad_data
        return {
            name: OfRun(ScoringJob(spec.run, "", "", name, policy=policy), dict(spec.weights), parts, size, item)
            for name in domains
        }
    value = OfTable(spec.table, experiment) if spec.table is not None else is_own if spec.name == HITS else noise
    return dict.fromkeys(domains, OfPairs(experiment, value))
