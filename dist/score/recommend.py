"""The K items that suit each user best, of all there are: Parquet in, Parquet out."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ...data.arrow.column_types import is_string
from ...data.arrow.ids import id_keys
from ...data.arrow.values import ragged_keys
from ...data.batch.batch import Batch
from ...data.batch.row_encoder import RowEncoder
from ...data.batch.rows import Rows
from ...data.catalogs.catalog import read_catalog
from ...data.catalogs.catalog_files import catalog_key_type
from ...data.errors import UserError
from ...data.events.event_files import iterate_group, open_parquet
from ...data.schema.column_needs import needed_columns
from ...data.schema.layout import content_key, id_key
from ...data.schema.prefix_needs import text_places
from ...data.schema.sizes import padded_rows
from ...data.vocabulary.vocabulary import KeyIndex
from ..embed.preference import PreferenceEncoder
from ..logs import prometheus
from ..logs.progress import Progress
from ..ranks.runtime import Runtime
from ..retrieval.candidates import items_of_domain
from ..retrieval.rankings import ByVectors
from ..retrieval.retrieval import Retriever
from ..retrieval.search import Search, recall
from ..retrieval.slate import Slate
from ..retrieval.slates import slates
from ..run.finite import usable
from .part_files import unfinished, write_part
from .recommend_input import RecommendJob, domain_of_users, listed_items, training_events, user_needs
from .score import model_of, summed_up
from .statistics import statistics_of
from .work_list import Part, WorkList, in_turns

ROWS = 1024
"""Users at a time."""
_COMPARED = 256  # users whose approximate search is compared with an exact one
_WHOLE = 1 << 30  # longer than any history


def recommend(job: RecommendJob, planned: WorkList, runtime: Runtime) -> tuple[dict[str, Any], float | None, int, int]:
    """Writes the best items of every user, those first that score highest or in the order of a slate; ``planned`` is of `plan_recommendations`.

    Each row group becomes one part, as of `score`, with the user's id, ``items`` and ``scores`` (float32), both lists of at most
    ``k``. An item of which nothing is known, neither id nor content nor a named feature, is never recommended; a catalog's new items are.

    Returns:
        The summary, in which a user's score is that of the best item; of an approximate search, which share of the best items it found
        for this rank's first users; and how many of the users now looked at, and how many items, came out as no number: these
        get nothing and are not recommended.

    Raises:
        UserError: a damaged checkpoint, or bad input.
    """
    began = time.perf_counter()
    todo = runtime.on_main(lambda: unfinished(planned))
    prometheus.label(command="recommend", run=str(job.run))
    encoder, model, replicated = model_of(job.folder, runtime)
    work = Recommender(model, encoder, runtime, job, among=listed_items(job, encoder.experiment))
    started = time.perf_counter()

    def do(part: Part) -> None:
        table = work.part(part)
        write_part(planned, part, table, statistics_of(*best_scores(table["scores"]), part.rows))

    with Progress("recommending", "users", sum(part.rows for part in todo), "recommendation", runtime.is_main) as done:
        work.progress = lambda users: done.add(users * runtime.world_size)
        in_turns(todo, runtime, replicated, do, work.idle, done)
    rate = sum(part.rows for part in todo) / (time.perf_counter() - started)
    summary = runtime.on_main(lambda: summed_up(job, planned, time.perf_counter() - began, rate))
    return summary, work.recall, int(runtime.sum(torch.tensor(work.overflowed))), work.items_overflowed


def best_scores(lists: pa.ChunkedArray) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray, dict[str, list[str]]]:
    """What `statistics_of` takes: of lists of scores, each user's first one, NaN for one who has none, or where that is null."""
    best_of = np.full(len(lists), np.nan, np.float32)
    if len(lists):
        scores = lists.combine_chunks()
        has = scores.value_lengths().to_numpy() > 0
        best_of[has] = scores.values.to_numpy(zero_copy_only=False)[scores.offsets.to_numpy()[:-1][has]]
    users = np.zeros(len(lists), np.int64)
    return {"best_item": best_of}, users.astype(bool), users, {"users": ["best_item"]}


@dataclass(frozen=True)
class Choice:
    """How lists are made of the best items.

    Attributes:
        pool: of how many of them.
        order: the users, and the scores ``[B, pool]`` of their best items, highest first and minus infinity where there is none, with their
            positions -> places ``[B, k]`` int64 in the list's order, all on the host.
    """

    pool: int
    order: Callable[[pa.Table, Tensor, Tensor], Tensor]


class Recommender:
    """Finds the items that suit the users of a table best, a thousand users at a time.

    Attributes:
        preference: as of `PreferenceEncoder.vector`, of all these users; None: as their rows say.
    """

    def __init__(
        self,
        model: nn.Module,
        encoder: RowEncoder,
        runtime: Runtime,
        job: RecommendJob,
        retriever: Retriever | None = None,
        among: NDArray[np.uint64] | None = None,
        choice: Choice | None = None,
        preferences: PreferenceEncoder | None = None,
    ):
        """Computes the vectors of all items, but where there is a ``retriever``, which has them.

        Args: as of `model_of`; of the job what and how much is recommended counts, not where it reads and writes; ``among`` are the keys of
            the items that alone are recommended, None: all; ``choice`` is how lists are made where the job asks for no slate, None: of the best k;
            ``preferences`` makes vectors of preferences in words, None: one is made.
        """
        self._among = among
        self._model, self._encoder, self._runtime, self._job = model, encoder, runtime, job
        self._retriever = retriever or Retriever(model, encoder, runtime).narrower(job.width)
        self.items_overflowed = int(self._retriever.no_number.sum())
        self._repeat = job.protocol.repeats(encoder.experiment)
        self._padded = padded_rows(ROWS, len(encoder.layout.domains))
        self._needs = user_needs(encoder.experiment, job.read_as)
        self._preferences = preferences or PreferenceEncoder(job.run, encoder.experiment)
        self.preference: tuple[str, NDArray[np.float32]] | None = None
        if (preference := job.preference) is not None:
            self.preference = runtime.on_main(lambda: self._preferences.vector(preference))
        self._ids, self._search, self._exact = self._named()
        self._choice = choice if job.slate is None else self._of_slate(job.slate)
        self.recall: float | None = None
        self.overflowed = 0
        self.progress: Callable[[int], None] = lambda users: None

    def _of_slate(self, slate: Slate) -> Choice:
        likeness = self._retriever.likeness(self._job.alike)
        return Choice(slate.pool, lambda _, top, at: slates(slate, top, at, likeness, self._job.k))

    def part(self, part: Part) -> pa.Table:
        """The recommendations of one part."""
        empty = self._seen(open_parquet(part.file).schema_arrow.empty_table())
        return self._of_tables(iterate_group(part.file, part.group, empty.column_names, ROWS), empty)

    def table(self, table: pa.Table) -> pa.Table:
        """The recommendations of users in memory, in the columns of a part."""
        table = self._seen(table)
        pieces = (table.slice(at, ROWS) for at in range(0, table.num_rows, ROWS))
        return self._of_tables(pieces, table.slice(0, 0))

    def _seen(self, table: pa.Table) -> pa.Table:
        """The columns that are looked at, of those that may be missing the ones that are there."""
        there = set(table.column_names)
        return table.select([need.name for need in self._needs if need.name in there or not need.optional])

    def _of_tables(self, tables: Iterable[pa.Table], empty: pa.Table) -> pa.Table:
        done = []
        for table in tables:
            done.append(self._table(table))
            self.progress(table.num_rows)
        return pa.concat_tables(done) if done else self._nothing(empty)

    def _nothing(self, empty: pa.Table) -> pa.Table:
        """Of no users, without the model: no other rank counts on a lookup of this one, as of `idle`."""
        user = self._needs[0].name
        lists = {"items": self._ids.type, "scores": pa.float32()}
        return pa.table({user: empty[user], **{name: pa.nulls(0, pa.list_(kind)) for name, kind in lists.items()}})

    def idle(self, most: int, rows: int) -> None:
        """Looks nothing up, as often as the rank with ``most`` rows still looks up when this one is done with its own."""
        for _ in range(-(-most // ROWS) - -(-rows // ROWS)):
            self._users(None)

    def _users(self, table: pa.Table | None) -> Tensor:
        rows = self._encoder.no_rows() if table is None else self._encode(table)
        batch = self._encoder.assemble([rows], self._padded)
        if table is not None:
            self._say(batch, table)
        with torch.no_grad():
            _, outputs = self._model(batch.to(self._runtime.device))
        return self._retriever.cut(outputs.user.float())

    def _say(self, batch: Batch, table: pa.Table) -> None:
        """Puts into a batch what is said of its users: of all of them, or of each in a column of texts; a blank one says nothing."""
        if self.preference is not None:
            key, vector = self.preference
            batch.vectors[key] = torch.from_numpy(vector).expand(batch.rows, -1)
            batch.vector_present[key] = torch.ones(batch.rows, dtype=torch.bool)
            return
        for name in set(text_places(self._encoder.experiment)) & set(table.column_names):
            texts = table[name].cast(pa.large_string()).to_pylist()
            rows = [row for row, text in enumerate(texts) if text and text.strip()]
            if not rows:
                continue
            distinct = {text: at for at, text in enumerate(sorted({texts[row] for row in rows}))}
            vectors = torch.from_numpy(self._preferences.vectors(name, list(distinct)))
            key, there = content_key("user", name), torch.tensor(rows)
            of_rows = vectors[[distinct[texts[row]] for row in rows]].to(batch.vectors[key].dtype)
            batch.vectors[key] = batch.vectors[key].index_copy(0, there, of_rows)
            batch.vector_present[key] = batch.vector_present[key].index_fill(0, there, True)

    def _encode(self, table: pa.Table) -> Rows:
        experiment = self._encoder.experiment
        domain = domain_of_users(experiment, self._job.read_as)
        needs = {need.name for need in needed_columns(experiment, domain, with_labels=False)}
        for lacking in needs - set(table.column_names):
            table = table.append_column(lacking, pa.nulls(table.num_rows))
        return self._encoder.encode(domain, table, "the users", with_labels=False)

    def _named(self) -> tuple[pa.Array, Search, Search | None]:
        """All items' ids, the search among those that are known and have one, and what to compare it with."""
        retriever = self._retriever
        ids, nameless = _item_ids(self._encoder, retriever.items.keys)
        hidden = retriever.unknown | nameless.to(retriever.unknown.device)
        if self._among is not None:
            named = np.isin(retriever.items.keys, self._among)
            if not named.any():
                what = f"names {len(self._among):,} items, none of which this run knows or its catalog has"
                raise UserError("items", what, "Give ids as the training events and the catalog have them.")
            hidden |= torch.from_numpy(~named).to(hidden.device)
        if self._job.domain is not None:
            events, keys = training_events(self._job, self._encoder.experiment), retriever.items.keys
            hidden |= ~items_of_domain(self._job.domain, events, self._encoder, keys, self._runtime).to(hidden.device)
        exact, ranking = retriever.ranking.search(hidden), retriever.ranking
        if not self._job.approximate:
            return ids, exact, None
        assert isinstance(ranking, ByVectors)  # `plan_recommendations` has seen to it
        return ids, ranking.approximate(hidden), exact

    def _table(self, table: pa.Table) -> pa.Table:
        user, history = (need.name for need in self._needs[:2])
        gone = torch.zeros(2, 0, dtype=torch.int64)
        if not self._repeat:
            keys, offsets = ragged_keys(table[history], _WHOLE)
            place = self._retriever.place_of_keys(keys)
            row = np.repeat(np.arange(table.num_rows), np.diff(offsets))
            gone = torch.from_numpy(np.stack([row, place])[:, place >= 0].astype(np.int64))
        users = self._users(table)
        fine = usable(users)
        self.overflowed += int((~fine).sum())
        users = torch.where(fine[:, None], users, 0)
        wanted = self._job.k if self._choice is None else self._choice.pool
        top, at = self._search.best(users, wanted, (gone[0], gone[1]))
        if self._exact is not None and self.recall is None and len(users):
            few = gone[:, gone[0] < _COMPARED]
            self.recall = recall(at[:_COMPARED], self._exact.best(users[:_COMPARED], wanted, (few[0], few[1])))
        if self._choice is not None:
            order = self._choice.order(table, top, at)
            top, at = top.gather(1, order), at.gather(1, order)
        there = (top > float("-inf")) & fine.cpu()[:, None]
        offsets = pa.array(np.concatenate([[0], np.cumsum(there.sum(1).numpy())]), pa.int32())
        items, values = self._ids.take(pa.array(at[there].numpy())), pa.array(top[there].numpy(), pa.float32())
        lists = {"items": pa.ListArray.from_arrays(offsets, items), "scores": pa.ListArray.from_arrays(offsets, values)}
        return pa.table({user: table[user], **lists})


def _item_ids(encoder: RowEncoder, keys: np.ndarray) -> tuple[pa.Array, Tensor]:
    """Ids ``[C]`` of items, in the catalog's own type, and ``[C]`` bool, True for one whose id nobody knows: a string that
    is in no catalog. Without a catalog integers are int64, or uint64 where training's were. An integer that the catalog's type is too narrow for makes all
    of them int64."""
    entity = encoder.experiment.entities.item
    if entity.catalog is None:  # then ids are no strings: `plan_recommendations` has seen to it
        unsigned = id_key("item") in encoder.statistics.unsigned
        return pa.array(keys if unsigned else keys.view(np.int64)), torch.zeros(len(keys), dtype=torch.bool)
    ids = read_catalog("item", entity, [])[entity.catalog.key].combine_chunks()
    kind = catalog_key_type("item", entity)
    if is_string(kind):
        at = KeyIndex(id_keys(ids)[0]).lookup(keys)
        return ids.cast(kind).take(pa.array(np.maximum(at, 0))), torch.from_numpy(at < 0)
    # Without a sign where the catalog has none: 64 bits are an id of 2**63 or more there, elsewhere a negative one.
    numbers = pa.array(keys if pa.types.is_unsigned_integer(kind) else keys.view(np.int64))
    known = torch.zeros(len(keys), dtype=torch.bool)
    try:
        return numbers.cast(kind), known
    except pa.ArrowInvalid:  # an item of the events alone
        return numbers, known
