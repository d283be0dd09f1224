"""Binary labels: did it happen or not. Logistic regression on the logit, measured by how well it ranks and is calibrated."""

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor

from ...data.arrow.column_need import BadValues, ColumnNeed
from ...data.arrow.column_types import PROBABILITY
from ...data.arrow.values import floats
from ...data.config.sections.label import AnyLabel
from ...data.config.sections.task import COUNT, Array, Measures, Metric, Scale, Task
from ...data.settings_base import Name
from .group_metrics import RANKING_K, gauc_and_uauc, ndcg_at_k
from .metrics import auc, calibration, defined, logloss, normalized_entropy
from .spread import ALONE, Spread, total

MEASURES = Measures(
    headline=Metric(key="auc", title="AUC", short="AUC"),
    higher_is_better=True,
    others=[
        Metric(key="gauc", title="GAUC", short="GAUC"),
        Metric(key="uauc", title="UAUC"),
        Metric(key=f"ndcg@{RANKING_K}", title=f"NDCG@{RANKING_K}", short=f"NDCG@{RANKING_K}"),
        Metric(key="logloss", title="log loss", higher_is_better=False),
        Metric(key="ne", title="NE", higher_is_better=False),
        Metric(key="calibration", title="calibration", short="calib.", short_format=".3f", averaged=False),
    ],
    support=Metric(key="positives", title="positives", format=COUNT),
    mean=Metric(key="rate", title="positives", format=".1%"),
    chosen_by="AUC",
    of_popularity="Popularity ranks by the item's own positive rate in training.",
    of_oracle=("The oracle ranks by the true probability, known in a simulation: no model can be expected above it."),
    explained=(
        "GAUC: AUC within each user, weighted by rows. UAUC: the same, each user counting once. NE: log loss over that of the base rate, below 1 is better than it. "
        "Calibration: mean prediction over positive rate, 1 is right."
    ),
)


def bad_labels(array: pa.Array) -> np.ndarray | None:
    """``[N]`` bool, True for what is neither 0 nor 1 nor missing; None where all are good."""
    if pa.types.is_boolean(array.type) or pa.types.is_null(array.type):
        return None
    values = floats(array)
    bad = ~((values == 0) | (values == 1) | np.isnan(values))
    return bad if bad.any() else None


def _bad_probabilities(array: pa.Array) -> np.ndarray | None:
    """``[N]`` bool, True for what is neither from 0 to 1 nor missing; None where all are good."""
    values = floats(array)
    bad = (values < 0) | (values > 1)
    return bad if bad.any() else None


_LABELS = BadValues(
    bad_labels,
    "neither 0 nor 1 nor null",
    "Labels are 0, 1 or null; make them of other numbers by a condition, such as label: {column: rating, at_least: 4}.",
    between=(0, 1),
)
_PROBABILITIES = BadValues(
    _bad_probabilities, "neither from 0 to 1 nor null", "Probabilities are from 0 to 1, or null.", between=(0, 1)
)


class Binary(Task):
    """A label that is 0 or 1. Its score is the probability of 1."""

    of_domain: ClassVar[frozenset[str]] = Task.of_domain | {"probability", "negative_rate"}
    takes: ClassVar[str] = "0 or 1"
    weighted: ClassVar[bool] = True
    of_conditions: ClassVar[bool] = True

    kind: Literal["binary"] = Field(default="binary", description="a label that is 0 or 1; scores are probabilities")
    label: AnyLabel = Field(
        description="events column holding 0, 1 or null (null: no label in this row), or a condition on a column"
    )
    weight: float = Field(default=1.0, gt=0, description="weight of its loss")
    loss: Literal["bce", "focal"] = Field(
        default="bce",
        description="bce: cross-entropy, whose scores are probabilities; focal: rows that are predicted well count less, which draws "
        "scores toward one half: they rank, and are not calibrated",
    )
    focal_gamma: float = Field(
        default=2.0, gt=0, description="of focal: how much less rows count that are predicted well; 0 would be bce"
    )
    probability: str | None = Field(
        default=None, description="events column holding the true probability, where one is known (simulations)"
    )
    negative_rate: float = Field(
        default=1.0, gt=0, le=1, description="share of the rows with label 0 that the training events have kept"
    )
    given: Name | None = Field(
        default=None,
        description="task of the same domain whose event comes first, as click does before conversion: the score is the probability "
        "of both, learned from all rows",
    )

    @model_validator(mode="after")
    def _one_rate(self) -> "Binary":
        if self.given is not None and self.negative_rate < 1:
            raise ValueError(
                f"has negative_rate and given; write the rate at {self.given}, whose 0 are what was left out"
            )
        if self.loss == "focal" and (self.given is not None or self.negative_rate < 1):
            other = "negative_rate" if self.given is None else "given"
            raise ValueError(f"has {other} and loss: focal, whose scores are no probabilities to work with; use bce")
        return self

    def columns(self, field: str) -> list[ColumnNeed]:
        """The label's, and that of the true probability where there is one."""
        needs = [self.label.need(f"{field}.label", _LABELS)]
        if self.probability:
            needs.append(ColumnNeed(self.probability, PROBABILITY, f"{field}.probability", bad=_PROBABILITIES))
        return needs

    @property
    def parent(self) -> str | None:
        """``given``."""
        return self.given

    @property
    def offset(self) -> float:
        """Where a share r of the negatives is left, the odds of 1 are 1/r times what they are: log 1/r.

        Source: King and Zeng, Logistic Regression in Rare Events Data (2001); He et al. (2014).
        """
        return -math.log(self.negative_rate)

    @property
    def oracle(self) -> str | None:
        """The true probability."""
        return self.probability

    def without_effect(self) -> dict[str, str]:
        return {} if self.loss == "focal" else {"focal_gamma": "loss: focal"}

    def taken(self, labels: Array) -> NDArray[np.bool_]:
        """Where the label is 1."""
        return labels > 0

    def losses(self, logits: Tensor, labels: Tensor, scale: Scale) -> Tensor:
        """Binary cross-entropy in nats; of focal (Lin et al., Focal Loss for Dense Object Detection, 2017) times the probability of
        the other label to the power of ``focal_gamma``.
        """
        if self.loss == "bce":
            return F.binary_cross_entropy_with_logits(logits, labels, reduction="none")
        right = (2 * labels - 1) * logits  # log-odds of the label there is
        return -F.logsigmoid(right) * torch.exp(self.focal_gamma * F.logsigmoid(-right))

    def scores(self, logits: Tensor, scale: Scale) -> Tensor:
        """Probabilities: the sigmoid."""
        return torch.sigmoid(logits)

    @property
    def measures(self) -> Measures:
        """The area under the ROC curve first."""
        return MEASURES

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
        """positives, auc, gauc and uauc (within ``users``), logloss, ne, calibration, ndcg@10 (within ``lists``)."""
        ndcg = None
        if lists is not None:
            of_lists = None if weights is None else weights[in_list]
            ndcg = defined(ndcg_at_k(labels[in_list], scores[in_list], lists[in_list], weights=of_lists, spread=spread))
        within = None if users is None else gauc_and_uauc(labels, scores, users, weights, spread)
        return {
            "positives": int(total(np.count_nonzero(np.asarray(labels) > 0), spread)),
            "auc": defined(auc(labels, scores, weights, spread)),
            "gauc": None if within is None else defined(within[0]),
            "uauc": None if within is None else defined(within[1]),
            "logloss": defined(logloss(labels, scores, weights, spread)),
            "ne": defined(normalized_entropy(labels, scores, weights, spread)),
            "calibration": defined(calibration(labels, scores, weights, spread)),
            f"ndcg@{RANKING_K}": ndcg,
        }

    def headline(self, labels: Array, scores: Array, weights: Array | None = None, spread: Spread = ALONE) -> float:
        """AUC."""
        return auc(labels, scores, weights, spread)

    def validation(self, row: Mapping[str, Any]) -> tuple[float, float] | None:
        """AUC. Its standard error falls with the root of the rarer label: a domain with a few dozen positives would
        otherwise choose the checkpoint by chance.
        """
        if row["auc"] is None:
            return None
        return row["auc"], math.sqrt(min(row["positives"], row["rows"] - row["positives"]))
