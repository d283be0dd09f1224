"""A trained run in memory: scores for rows, and items for users."""

import os
from collections.abc import Sequence
from copy import copy
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from foundrank.data.arrow.column_types import NAME, is_string
from foundrank.data.arrow.ids import id_keys
from foundrank.data.batch.row_encoder import RowEncoder
from foundrank.data.catalogs.catalog_files import known_id_types
from foundrank.data.config.kinds import Kinds
from foundrank.data.errors import UserError
from foundrank.data.schema.bad_values import check_share
from foundrank.data.schema.column_needs import ColumnNeed, SchemaCheck
from foundrank.data.schema.layout import id_key
from foundrank.data.storage.file_systems import Location, is_uri
from foundrank.data.storage.mirror import mirrored
from foundrank.dist.console import silenced_libraries
from foundrank.dist.embed.preference import PreferenceEncoder
from foundrank.dist.increments.follow import deltas_between, statistics_after, take_weights
from foundrank.dist.ranks.process_state import process_kept
from foundrank.dist.ranks.runtime import Runtime, alone
from foundrank.dist.retrieval.protocol import Protocol
from foundrank.dist.retrieval.retrieval import Retriever
from foundrank.dist.retrieval.search import faiss_module
from foundrank.dist.retrieval.slate import slate_of
from foundrank.dist.run.kept_checkpoints import best_of_members, identity
from foundrank.dist.run.run_folder import id_types_of, open_experiment
from foundrank.dist.score.recommend import Recommender
from foundrank.dist.score.recommend_input import RecommendJob, check_names_known, check_retrieves, user_needs
from foundrank.dist.score.score import RowScorer, model_of
from foundrank.dist.score.scoring_input import DOMAIN, ScoringJob, check_job, check_names, input_needs
from foundrank.runs import Run, current_at, run_at

_ROWS, _USERS = "the rows to score", "the users to recommend to"


def load(run: Run | Location, *, kinds: Kinds | None = None) -> "Scorer":
    """A run's best checkpoint, in this process's memory.

    Args:
        run: a run, its folder or its URI, or a folder that one was promoted to.
        kinds: what its experiment could choose from, where that is more than foundrank has.

    Raises:
        UserError: no run, no checkpoint or a damaged one, or tables that take more than half of the memory there is.
    """
    return Scorer(run_at(run, kinds))


class Scorer:
    """Scores rows and recommends items with a run, as ``foundrank score`` and ``foundrank recommend`` do, with the same numbers.

    It belongs to one process, and to one thread at a time. Under torchrun each rank may load one of its own.

    Attributes:
        experiment: of the run.
    """

    def __init__(self, run: Run):
        """As of `load`."""
        self._followed, self._kinds = run.location, run.kinds
        self._load(current_at(run, None))

    def _load(self, run: Run) -> None:
        """All of a version; where that fails, what is in memory stays what it is."""
        folder = run.folder
        with process_kept(), alone() as runtime:
            encoder, model, replicated = model_of(folder, runtime, run.kinds)
        if not replicated:
            raise UserError(
                run.location,
                "has tables that take more than half of this machine's memory",
                "Score files with `foundrank score`, on several processes or machines.",
            )
        checkpoint = identity(best_of_members(folder))
        self._model, self._runtime = model, Runtime(0, 1, runtime.device)
        self._take(run, checkpoint, encoder)

    def _take(self, run: Run, checkpoint: str, encoder: RowEncoder) -> None:
        self._run, self._checkpoint, self._encoder = run.location, checkpoint, encoder
        self.experiment = encoder.experiment
        self._id_types = known_id_types(self.experiment, id_types_of(run.folder))
        self._recommenders: dict[tuple[Any, ...], Recommender] = {}
        for made in ("_retriever", "_preferences"):
            self.__dict__.pop(made, None)

    def score(
        self,
        rows: Any,
        domain: str | None = None,
        *,
        keep: Sequence[str] = (),
        like: Sequence[str] = (),
        bad_data: Literal["fail", "skip"] | None = None,
    ) -> pa.Table:
        """The score of each task, for each row: of a binary one its probability, of others a number in the label's unit. Of a run without
        tasks, the score that `recommend` gives the row's item.

        Args:
            rows: a pyarrow Table, or a pandas or polars DataFrame, with the events' columns, but for labels and ``list_column``.
            domain: of all rows; None where there is a column ``domain``.
            keep: further columns to pass through.
            like: for a domain that the run has never seen, those whose scores are averaged.
            bad_data: what bad rows mean, in place of the run's ``bad_data.policy``.

        Returns:
            A row for each row, in order: its ids, what is kept, ``domain``, and ``score_TASK`` (float32), null where the domain
            has no such task; or ``score_next_item``, null where nothing is known of the item.

        Raises:
            UserError: an unknown domain, a column that is missing or has another type, or bad values.
        """
        table, experiment = _table(rows, _ROWS), self.experiment
        policy = experiment.bad_data.model_copy(update={"policy": bad_data or experiment.bad_data.policy})
        job = ScoringJob(self._run, _ROWS, "", domain, tuple(keep), policy, tuple(like))
        check_job(job, experiment)
        check_names(job, experiment, _ROWS, table.column_names)
        if domain is None:
            self._check(table, [ColumnNeed(DOMAIN, NAME, "scoring without a domain")], _ROWS)
        named = job.like or ([domain] if domain else pc.unique(table[DOMAIN].cast(pa.string())).to_pylist())
        self._check(table, input_needs(job, experiment, named), _ROWS)
        with silenced_libraries():
            retriever = None if self._encoder.layout.tasks else self._retriever
            scorer = RowScorer(self._model, self._encoder, self._runtime, job, retriever)
            scores, bad = scorer.score_table(table, _ROWS)
        check_share(bad, table.num_rows, policy, _ROWS)
        return scores

    def recommend(
        self,
        users: Any,
        k: int = 100,
        *,
        repeat: bool | None = None,
        approximate: bool = False,
        domain: str | None = None,
        width: int | None = None,
        items: Sequence[Any] | pa.Array | None = None,
        diversity: str | None = None,
        diversity_weight: float | None = None,
        pool: int | None = None,
        alike_by: str | None = None,
        preference: str | None = None,
    ) -> pa.Table:
        """The items that suit each user best, of all there are, or of those named.

        Args:
            users: a pyarrow Table, or a pandas or polars DataFrame, with the user's id and history.
            k: items per user.
            repeat: whether past items are recommended too; None: where the run's ``model.next_item.repeat`` says so.
            approximate: searches through FAISS, if it is installed.
            domain: whose items alone are recommended, those of its training events.
            width: how many leading numbers of their vectors items are found by, one of ``model.next_item.widths``; None: all.
            items: ids of those that alone are recommended; None: all.
            diversity: ``mmr`` or ``dpp``: how the best items are put into a list that is not of one kind; None: by their scores.
            diversity_weight: with ``diversity``, from 0, relevance alone, to 1, diversity alone.
            pool: with ``diversity``, how many of the best items a list is chosen from; 5 k by default.
            alike_by: with ``diversity``, the content of items that says how alike they are; None: the vectors, or codes, that the run looks for them by.
            preference: what all these users prefer, in words, in place of what their column has; for a run with a content of the user in ``model.history.prefix``.

        Returns:
            A row for each row, in order: the user's id, and lists of at most ``k`` ``items`` and their ``scores`` (float32), those first that
            score highest, or in the order that ``diversity`` gives them, of which the first is the best.

        Raises:
            UserError: the run has not learned ``model.next_item``, a column is missing or has another type, or what is asked of lists means nothing.
        """
        table, experiment = _table(users, _USERS), self.experiment
        if approximate:
            faiss_module()
        check_retrieves(self._run, experiment, domain, approximate)
        slate = slate_of(diversity, diversity_weight, pool, k, alike_by)
        Protocol(repeat, domain=domain, width=width, slate=slate, alike=alike_by).check(experiment, self._run)
        said = None if preference is None else self._preferences.vector(preference)
        self._check(table, user_needs(experiment, domain), _USERS)
        check_names_known(self._run, experiment, self._id_types)
        asked = (k, repeat, approximate, domain, None, width, slate, alike_by)
        with silenced_libraries():
            job = RecommendJob(self._run, _USERS, "", *asked)
            parts = (self._model, self._encoder, self._runtime, job)
            if items is None and asked in self._recommenders:
                recommender = self._recommenders[asked]
            else:
                among = None if items is None else self._keys_of(items)
                recommender = Recommender(*parts, self._retriever.narrower(width), among, preferences=self._preferences)
                if items is None:
                    self._recommenders[asked] = recommender
            mine = copy(recommender)  # another thread's users may have another preference
            mine.preference = said
            return mine.table(table)

    def refresh(self) -> bool:
        """Takes the newest version of a run that is updated, or whatever was promoted since, between two calls; whether there was one.

        Where the version in memory is one that the newest goes on from, what has changed is read alone; else all of it is.

        Raises:
            UserError: what is promoted is not there as it was, or damaged; the version in memory stays what it is.
        """
        newest = current_at(run_at(self._followed, self._kinds), None)
        checkpoint = identity(best_of_members(newest.folder))
        if (newest.location, checkpoint) == (self._run, self._checkpoint):
            return False
        if not (deltas := self._deltas_to(newest.location, checkpoint)):
            self._load(newest)
            return True
        statistics = statistics_after(self._encoder.statistics, deltas)
        encoder = RowEncoder(open_experiment(newest.folder, newest.kinds), statistics)
        same = encoder.experiment.model == self.experiment.model
        if encoder.layout != self._encoder.layout or not same:  # tables have grown, or there are tasks or inputs more
            self._load(newest)
            return True
        take_weights(self._model, deltas)
        self._take(newest, checkpoint, encoder)
        return True

    def _deltas_to(self, newest: Location, checkpoint: str) -> list[Path]:
        """The deltas that lead to a version from the one in memory; none where these are no versions of one run, or not all are there."""
        run, *places = (
            os.fspath(one) if is_uri(one) else os.path.realpath(one) for one in (self._followed, self._run, newest)
        )
        versions = [os.path.relpath(place, run) for place in places]
        return deltas_between(mirrored(run, "read"), (versions[0], self._checkpoint), (versions[1], checkpoint))

    def _keys_of(self, items: Sequence[Any] | pa.Array) -> NDArray[np.uint64]:
        """Keys of items' ids.

        Raises:
            UserError: they are of another type than the run's.
        """
        try:
            ids: pa.Array = items if isinstance(items, pa.Array) else pa.array(list(items))
            whole = is_string(ids.type) or pa.types.is_integer(ids.type)
        except (pa.ArrowInvalid, pa.ArrowTypeError):
            whole, ids = False, pa.nulls(0)
        if not whole:
            raise UserError("items", "are neither all integers nor all strings", "Give ids as in the training events.")
        kind, held = "string" if is_string(ids.type) else "integer", self._id_types.get(id_key("item"), ("", ""))[0]
        if not len(ids) or (held and kind != held):
            what = f"has {kind} ids, but the run holds {held} ids" if len(ids) else "names no item"
            raise UserError("items", what, "Give ids as in the training events, or leave it out for all.")
        keys, valid = id_keys(ids)
        return keys[valid]

    @cached_property
    def _preferences(self) -> PreferenceEncoder:
        """What makes vectors of preferences."""
        return PreferenceEncoder(self._run, self.experiment)

    @cached_property
    def _retriever(self) -> Retriever:
        """All items' vectors, which do not change within a version."""
        return Retriever(self._model, self._encoder, self._runtime)

    def _check(self, table: pa.Table, needs: Sequence[ColumnNeed], where: str) -> None:
        SchemaCheck(needs, dict(self._id_types)).check(where, table.schema)


def _table(rows: Any, where: str) -> pa.Table:
    if isinstance(rows, pa.Table):
        return rows
    try:
        return pa.table(rows)
    except (TypeError, ValueError) as error:  # Arrow's own errors are ValueErrors
        told = f"are a {type(rows).__name__} that cannot be made a pyarrow Table ({error})"
        raise UserError(where, told, "Give a pyarrow Table, or a pandas or polars DataFrame.") from error
