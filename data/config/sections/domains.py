"""The surfaces: their logs and labels."""

from typing import Annotated, Any, Literal, get_args

from pydantic import ConfigDict, Field

from ...settings_base import Name, Seam, Strict
from .features import AnyFeature
from .task import Task

Split = Literal["train", "validation", "test"]
SPLITS: tuple[str, ...] = get_args(Split)


class EventsConfig(Strict):
    """Parquet files of one domain, by split: globs relative to the experiment file, or `delta:PATH@VERSION` for a Delta table."""

    train: str | None = Field(
        default=None,
        description="events to learn from; with init_from, a domain may have none, and is what it was there",
    )
    validation: str | None = Field(default=None, description="events to choose by")
    test: str | None = Field(default=None, description="events to report on")


def _events_may_be_the_experiments(schema: dict[str, Any]) -> None:
    schema["required"].remove("events")
    schema["properties"]["events"]["default"] = None


class DomainConfig(Strict):
    """One search or recommendation surface."""

    model_config = ConfigDict(json_schema_extra=_events_may_be_the_experiments)

    kind: Literal["search", "recommendation"] = Field(
        description="search: every row has a query; recommendation: none has"
    )
    events: EventsConfig = Field(description="its logs; those that the experiment's `events` names if absent")
    tasks: dict[Name, Annotated[Task, Seam("tasks", by="kind", default="binary")]] = Field(
        default_factory=dict,
        description="labels to predict; may be empty only if model.next_item is the only objective",
    )
    features: dict[Name, AnyFeature] = Field(default_factory=dict, description="features only this domain has")
    list_column: str | None = Field(
        default=None,
        description="events column naming the result list of a row; turns on NDCG@10, and tasks may have a list loss",
    )
    users: bool = Field(
        default=True,
        description="false: no user is known, as on a page that is the same for all; its events have no user and no history",
    )
    time: str | None = Field(
        default=None,
        description="events column: time of the event (timestamp, date or seconds); entities.user.history.time where that is absent",
    )
    cold: bool = Field(default=False, description="marks a domain with little data, for reports")
    sampling_weight: float = Field(
        default=1.0, gt=0, description="multiple of its natural share of each training batch"
    )
    sample_weight: str | None = Field(
        default=None,
        description="events column with the weight of each row, a number from 0 up, in the losses of its tasks; null: 1",
    )
    weighted_metrics: bool = Field(default=False, description="whether metrics count rows by their weights, too")

    def without_effect(self) -> dict[str, str]:
        found = {} if self.tasks else {"sample_weight": "a task"}
        if not any(self.weight_of(task) for task in self.tasks):
            found["weighted_metrics"] = "sample_weight"
        return found

    def lacks(self, entity: str) -> bool:
        """Whether no row of it has the ``user`` or the ``query``."""
        return not self.users if entity == "user" else entity == "query" and self.kind == "recommendation"

    def weighs_metrics_of(self, task: str) -> bool:
        """Whether metrics of a task count rows by weights."""
        return self.weighted_metrics and self.weight_of(task) is not None

    def weight_of(self, task: str) -> str | None:
        """The events column with the weights of a task's labels; None: they all weigh 1."""
        return self.tasks[task].sample_weight or self.sample_weight

    @property
    def whole_lists(self) -> bool:
        """Whether training needs all rows of a list in one batch: some task has a list loss."""
        return any(task.list_loss is not None for task in self.tasks.values())
