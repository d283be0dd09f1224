"""The rates of encoded rows: columns of ``Rows.dense``."""

import numpy as np
import pyarrow as pa

from ..config.experiment import Experiment
from ..rates.columns import rate_keys, rate_tables
from ..rates.parts import Place
from ..rates.rates import MISSING, UNSEEN, Rates
from ..schema.layout import Layout
from .rows import Rows


def ids_of(experiment: Experiment, layout: Layout, rows: Rows) -> dict[str, np.ndarray]:
    """Name of a table of rates -> ``[N]`` int64, the ids of rows in it."""
    at = {key: number for number, key in enumerate(layout.keys[: layout.singles])}
    found: dict[str, np.ndarray] = {}
    for name, key, here in rate_tables(experiment):
        ids = rows.singles[:, at[key]].astype(np.int64)
        own = ids * len(layout.domains) + rows.domain if here else ids
        found[name] = np.where(ids > 0, own, np.where(ids < 0, MISSING, UNSEEN))
    return found


class RateColumns:
    """Puts the rates of rows in place."""

    def __init__(self, experiment: Experiment, layout: Layout, rates: Rates):
        """Args: the experiment, the layout of its batches, and what training's labels say."""
        self._experiment, self._layout, self._rates = experiment, layout, rates
        entities = rate_keys(experiment)
        self._entities = {name: entities[key] for name, key, _ in rate_tables(experiment)}

    def put(self, rows: Rows, table: pa.Table, place: Place | None) -> None:
        """Fills the columns of all rows of a table, of which the ids are known already.

        Args:
            rows: the encoded table.
            table: the events.
            place: of rows of training, which know of the labels of some others: where they stand; None: they know of all labels.
        """
        parts = None
        if place is not None:
            name = self._layout.domains[rows.domain]
            parts = self._rates.parts.of_rows(self._experiment, name, table, place)
        ids = ids_of(self._experiment, self._layout, rows)
        # A plain model has its numbers as they are, and nothing learned in place of them.
        marked = self._layout.rates_in_folds and self._experiment.model.gate.kind != "none"
        rows.dense[:, self._layout.rates] = self._rates.columns(ids, self._entities, parts, marked)
