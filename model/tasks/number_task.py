"""What kinds of tasks whose labels are numbers have in common: their columns, and what they are measured by."""

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field

from ...data.arrow.column_need import BadValues, ColumnNeed
from ...data.arrow.column_types import NUMBER
from ...data.arrow.values import LARGEST, floats
from ...data.config.sections.task import COUNT, ROWS, Array, Measures, Metric, Task, takes_spread
from . import number_metrics as of_numbers
from .group_metrics import RANKING_K
from .metrics import defined
from .spread import ALONE, Spread, total

NDCG = Metric(key=f"ndcg@{RANKING_K}", title=f"NDCG@{RANKING_K}", short=f"NDCG@{RANKING_K}")
POSITIVES = Metric(key="positives", title="positives", format=COUNT)
DIGITS = ".4g"
"""How numbers with a unit are shown."""
LARGEST_EXPONENT = 80.0
"""Of what is predicted: a float32 holds e to the power of 88."""


class Measured(NamedTuple):
    """A metric, and what computes it of labels, scores and weights; of rows that are spread over ranks too, where it takes ``spread``."""

    metric: Metric
    of: Callable[..., float]


RMSE = Measured(
    Metric(key="rmse", title="RMSE", short="RMSE", format=DIGITS, short_format=DIGITS, higher_is_better=False),
    of_numbers.rmse,
)
MAE = Measured(Metric(key="mae", title="MAE", format=DIGITS, higher_is_better=False), of_numbers.mae)
R2 = Measured(Metric(key="r2", title="R²", short="R²"), of_numbers.r_squared)
SPEARMAN = Measured(Metric(key="spearman", title="Spearman", short="Spearman"), of_numbers.spearman)
CALIBRATION = Measured(
    Metric(key="calibration", title="calibration", short="calib.", short_format=".3f", averaged=False),
    of_numbers.calibration_ratio,
)
DECILE_ERROR = Measured(
    Metric(key="decile_error", title="decile error", format=".1%", higher_is_better=False), of_numbers.decile_error
)
OF_CALIBRATION = (
    "Calibration: mean prediction over mean label, 1 is right. Decile error: mean distance between the two over tenths of the "
    "rows in order of their prediction, as a share of the mean label."
)


def bad_numbers(
    array: pa.Array, least: float = -LARGEST, above: bool = False, whole: bool = False
) -> np.ndarray | None:
    """``[N]`` bool, True for numbers that are below ``least`` (not ``above`` it), too large, infinite or not ``whole``; what is
    missing is not bad. None where all are good.
    """
    values = floats(array)
    bad = (values < least) | (values > LARGEST)
    if above:
        bad |= values.astype(np.float32) <= np.float32(least)  # labels are kept so
    if whole:
        bad |= values != np.floor(values)
        bad &= ~np.isnan(values)
    return bad if bad.any() else None


def labels_from(least: float, what: str, remedy: str, above: bool = False, whole: bool = False) -> BadValues:
    """Which labels are bad; arguments as of `bad_numbers`, and words as of `BadValues`."""
    find = partial(bad_numbers, least=least, above=above, whole=whole)
    return BadValues(find, what, remedy, between=(least + above, LARGEST))


_EXPECTED = BadValues(
    bad_numbers,
    "no finite number, nor null",
    "Expectations are finite numbers, or null.",
    between=(-LARGEST, LARGEST),
)


class NumberTask(Task):
    """A label that is a number. A score is on the label's scale and has its unit.

    A subclass names what it is ``measured`` by, the headline first, and which labels are bad.
    """

    of_domain: ClassVar[frozenset[str]] = Task.of_domain | {"expected"}
    weighted: ClassVar[bool] = True

    weight: float = Field(default=1.0, gt=0, description="weight of its loss")
    expected: str | None = Field(
        default=None,
        description="events column holding the label's true expectation (of a quantile: the true quantile), where one is known (simulations)",
    )

    @property
    @abstractmethod
    def bad_labels(self) -> BadValues:
        """Which labels nobody can learn from."""

    @property
    @abstractmethod
    def measured(self) -> tuple[Measured, ...]:
        """The numbers of an evaluation, the headline first; beside them, there is NDCG where there are lists."""

    @property
    def truth(self) -> str:
        """What ``expected`` holds the true one of."""
        return "expectation"

    @property
    def support(self) -> Metric:
        """How many rows the headline rests on."""
        return ROWS

    @property
    @abstractmethod
    def explained(self) -> str:
        """What its numbers mean, in a few sentences."""

    @property
    def spreads(self) -> bool:
        """Whether all that it is measured by can be computed of spread rows."""
        return super().spreads and all(takes_spread(each.of) for each in self.measured)

    @property
    def chosen_by(self) -> Measured:
        """What a checkpoint is chosen by: of ``measured`` one that has no unit, and of which more is better."""
        return R2

    def columns(self, field: str) -> list[ColumnNeed]:
        """The label's, and that of its expectation where there is one."""
        needs = [self.label.need(f"{field}.label", self.bad_labels)]
        if self.expected:
            needs.append(ColumnNeed(self.expected, NUMBER, f"{field}.expected", bad=_EXPECTED))
        return needs

    @property
    def oracle(self) -> str | None:
        """The true expectation."""
        return self.expected

    def taken(self, labels: Array) -> NDArray[np.bool_]:
        """Where the label is above 0."""
        return labels > 0

    @property
    def measures(self) -> Measures:
        """What ``measured`` names, and NDCG with the label as gain."""
        headline, *others = (each.metric for each in self.measured)
        return Measures(
            headline=headline,
            higher_is_better=headline.higher_is_better,
            others=[*others, NDCG],
            support=self.support,
            mean=Metric(key="mean", title="means", format=".4g"),
            chosen_by=self.chosen_by.metric.title,
            of_popularity="Popularity predicts the item's own mean label in training.",
            of_oracle=f"The oracle predicts the true {self.truth}, known in a simulation: no model can be expected to do better.",
            explained=self.explained,
        )

    def metrics(
        self,
        labels: Array,
        scores: Array,
        users: Array | None = None,
        lists: Array | None = None,
        in_list: Array | slice = slice(None),
        weights: Array | None = None,
        spread: Spread = ALONE,
    ) -> dict[str, Any]:
        """What ``measured`` names, ndcg@10 (within ``lists``), positives where they are the support, and ``deciles``: mean score
        and mean label of each tenth of the rows.
        """
        found: dict[str, Any] = {
            each.metric.key: defined(_of(each, labels, scores, weights, spread)) for each in self.measured
        }
        found[NDCG.key] = None
        if lists is not None:
            of_lists = None if weights is None else weights[in_list]
            listed = labels[in_list], scores[in_list], lists[in_list]
            ndcg = of_numbers.graded_ndcg_at_k(*listed, weights=of_lists, spread=spread)
            found[NDCG.key] = defined(ndcg)
        if self.support is POSITIVES:
            found[POSITIVES.key] = int(total(np.count_nonzero(np.asarray(labels) > 0), spread))
        return found | {"deciles": of_numbers.deciles(labels, scores, weights, spread).tolist()}

    def headline(self, labels: Array, scores: Array, weights: Array | None = None, spread: Spread = ALONE) -> float:
        """The first of ``measured``."""
        return _of(self.measured[0], labels, scores, weights, spread)

    def validation(self, row: Mapping[str, Any]) -> tuple[float, float] | None:
        """What ``chosen_by`` says, at least -1: one domain far off would otherwise decide alone."""
        value = row[self.chosen_by.metric.key]
        return None if value is None else (max(value, -1.0), math.sqrt(row[self.support.key]))


def _of(measured: Measured, labels: Array, scores: Array, weights: Array | None, spread: Spread) -> float:
    spreads = {} if spread is ALONE else {"spread": spread}  # one of a user's own need not know of it
    return measured.of(labels, scores, weights=weights, **spreads)
