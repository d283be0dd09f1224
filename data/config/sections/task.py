"""What a task is: one label of a domain, and all that depends on its kind. The kinds themselves are in `model/tasks`."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from ...arrow.column_need import ColumnNeed
from ...settings_base import Seam, Strict
from .label import AnyLabel, Label

if TYPE_CHECKING:
    from torch import Tensor  # slow to import, and who reads an experiment file does without

Array = NDArray[Any]
Format = Annotated[str, Field(pattern=r"^,?\.\d[fg%]$")]


class Metric(Strict):
    """One number of an evaluation, and how it is shown.

    Attributes:
        key: what it is called in ``evaluation.json``.
        title: over its column in the report.
        format: of its values there, as `format` takes it.
        short: over its column in the terminal's table; empty: it is not in that table.
        short_format: of its values there.
        averaged: whether its mean over domains says something: that of two calibrations, one high, one low, does not.
        higher_is_better: whether more of it is better; of a headline, `Measures` says it.
    """

    key: str
    title: str
    format: Format = ".4f"
    short: str = ""
    short_format: Format = ".4f"
    averaged: bool = True
    higher_is_better: bool = True


COUNT = ",.0f"
ROWS = Metric(key="rows", title="rows", format=COUNT)


class Measures(Strict):
    """What a kind of task is measured by, and how it is shown.

    Attributes:
        headline: the number that is shown first, and that the oracle's and the popularity baseline's is compared with.
        higher_is_better: whether more of it is better.
        others: further numbers, in the order in which tables have them.
        support: how many rows the headline rests on; where there are few of them, it is a rough estimate.
        mean: what the mean of the labels is called.
        chosen_by: what `Task.validation` is called.
        of_popularity: what the popularity baseline does, in a sentence.
        of_oracle: what the oracle knows, in a sentence.
        explained: what the other numbers mean, in a few sentences.
    """

    headline: Metric
    higher_is_better: bool
    others: list[Metric]  # a tuple could not be read back: strictly, JSON has lists alone
    support: Metric
    mean: Metric
    chosen_by: str
    of_popularity: str
    of_oracle: str
    explained: str

    def better(self, first: float, second: float) -> bool:
        """Whether the first of two headlines is better than the second."""
        return first > second if self.higher_is_better else first < second

    @property
    def oracle(self) -> str:
        """What the oracle's headline is called in ``evaluation.json``."""
        return f"oracle_{self.headline.key}"

    @property
    def popularity(self) -> str:
        """What the popularity baseline's headline is called in ``evaluation.json``."""
        return f"popularity_{self.headline.key}"


class Scale(NamedTuple):
    """Of a task's labels in training, those of all domains together; of what `Task.scaled` makes of them.

    Attributes:
        mean: 0 where the kind asks for no scale.
        deviation: the standard deviation; above 0, and 1 where the kind asks for no scale, or its labels are all the same.
    """

    mean: float = 0.0
    deviation: float = 1.0


class Task(Strict, ABC):
    """One label of a domain. A subclass is a kind of task; its further fields are the kind's settings.

    A label is one number per row, and a score estimates it: on the label's scale, so that the mean label of an item (the
    popularity baseline) is a score, too. A task that several domains have is the same in all of them, but for the settings
    in ``of_domain``.

    Attributes:
        label: the events column, or a condition on one.
        weight: of the loss.
        sample_weight: events column with the weight of each label; None: the domain's.
        list_loss: a loss of whole lists beside it; None for none.
        of_domain: settings that may differ between domains.
        takes: the labels there are, for messages: ``0 or 1``.
        weighted: whether `metrics` and `headline` take weights; where they do not, a domain cannot have weighted metrics.
        ranks_by_first: whether more of the first of several outputs means a higher score; a list loss orders rows by it.
        of_conditions: whether labels may be a condition on a column: the kind takes 0 and 1.
    """

    of_domain: ClassVar[frozenset[str]] = frozenset({"label", "weight", "sample_weight", "list_loss"})
    takes: ClassVar[str]
    weighted: ClassVar[bool] = False
    ranks_by_first: ClassVar[bool] = True
    of_conditions: ClassVar[bool] = False

    label: AnyLabel = Field(description="events column holding the labels; null where a row has none")
    weight: float
    sample_weight: str | None = Field(
        default=None, description="events column with the weight of each label, in place of the domain's"
    )
    list_loss: Annotated[Any, Seam("list_losses", by="kind")] | None = Field(
        default=None,
        description="a loss of whole result lists beside the loss of each label; its domain needs a list_column",
    )

    @field_validator("label")
    @classmethod
    def _takes_conditions(cls, label: Label) -> Label:
        if label.is_condition and not cls.of_conditions:
            raise ValueError(f"is a condition, which makes labels of 0 and 1; this kind of task takes {cls.takes}")
        return label

    @abstractmethod
    def columns(self, field: str) -> list[ColumnNeed]:
        """The events columns that training and metrics need, the label's among them, as of `Label.need`.

        Args:
            field: where the experiment describes the task, ``domains.shop.tasks.click``.
        """

    @property
    @abstractmethod
    def oracle(self) -> str | None:
        """Events column of the label's true expectation, where a simulation knows it."""

    @abstractmethod
    def taken(self, labels: Array) -> NDArray[np.bool_]:
        """Whether labels ``[N]`` say that the row's item was taken, which makes it one for the next-item objective to find."""

    @property
    def parent(self) -> str | None:
        """The task whose event comes first: this one's logit is then of its label where that of the parent is 1."""
        return None

    @property
    def offset(self) -> float:
        """What is added to the logit in training, as its events show more of one label than there is. Scores go without it."""
        return 0.0

    @property
    def outputs(self) -> tuple[str, ...]:
        """A name for each number (logit) that the model gives for a row. What depends on them is in `losses` and `scores`."""
        return ("logit",)

    def scaled(self, labels: Array) -> Array | None:
        """What of labels ``[N]`` float64 the scale is of that `losses` and `scores` are given; None: this kind needs none."""
        return None

    @abstractmethod
    def losses(self, logits: "Tensor", labels: "Tensor", scale: Scale) -> "Tensor":
        """Loss of each label, before any weight.

        Args:
            logits: ``[B, T]`` float32, of T tasks that are alike; ``[B, T, K]`` of a kind with K > 1 outputs.
            labels: ``[B, T]`` float32; 0 where a row has none, and what comes out there, a finite number, is not used.
            scale: of their labels, that of all T.

        Returns:
            ``[B, T]`` float32.
        """

    @abstractmethod
    def scores(self, logits: "Tensor", scale: Scale) -> "Tensor":
        """What is predicted, on the label's scale, of logits of any shape and dtype; those may be infinite or NaN.

        Of a kind with several outputs, they are along the last axis, which the scores have not.
        """

    @property
    @abstractmethod
    def measures(self) -> Measures:
        """What it is measured by."""

    @property
    def spreads(self) -> bool:
        """Whether `metrics` and `headline` take ``spread``, as of `model/tasks/spread.py`: rows then stay spread over ranks, each of
        which gives its own. Else all rows of a domain come to one rank.
        """
        return takes_spread(self.metrics) and takes_spread(self.headline)

    @abstractmethod
    def metrics(
        self,
        labels: Array,
        scores: Array,
        users: Array | None = None,
        lists: Array | None = None,
        in_list: Array | slice = slice(None),
        weights: Array | None = None,
    ) -> dict[str, Any]:
        """Every number of some rows, ready for JSON: None where one is not defined.

        Args:
            labels: ``[N]``.
            scores: ``[N]`` float, all finite.
            users: ``[N]`` int64 or uint64, the user of each row.
            lists: ``[N]`` int64 or uint64, the result list of each row.
            in_list: ``[N]`` bool, whether the row is in a list.
            weights: ``[N]`` float from 0 up, how much each row counts; only given to kinds that are ``weighted``.

        Returns:
            Those that ``measures`` names, but for ``rows``.
        """

    @abstractmethod
    def headline(self, labels: Array, scores: Array, weights: Array | None = None) -> float:
        """The headline alone; NaN where it is not defined. Arguments as of `metrics`."""

    @abstractmethod
    def validation(self, row: Mapping[str, Any]) -> tuple[float, float] | None:
        """What a checkpoint is chosen by, of the metrics of a domain's rows: a number, and how much it counts.

        The number has no unit and more of it is better, so that it may be averaged with those of other kinds; it counts by
        the inverse of its standard error. None where it is not defined.
        """


def alike(first: Task, second: Task) -> bool:
    """Whether two tasks are the same, but for what may differ between domains."""
    return type(first) is type(second) and all(
        getattr(first, name) == getattr(second, name)
        for name in type(first).model_fields.keys() - first.of_domain - Task.of_domain
    )


def takes_spread(of: Callable[..., Any]) -> bool:
    """Whether what computes a metric says that it can do so of rows that are spread over ranks."""
    return "spread" in inspect.signature(of).parameters
