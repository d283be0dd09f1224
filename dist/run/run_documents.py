"""What the JSON documents of a run must hold to be used."""

from typing import Annotated, Any

from pydantic import Field, ValidationError

from ...data.config.sections.task import Measures
from ...data.storage.file_identity import FileIdentity
from ...data.storage.json_documents import Shape

Count = Annotated[int, Field(ge=0)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
FileName = Annotated[str, Field(pattern=r"^[^/\x00]+$")]
Number = float | None


class Best(Shape):
    """``best.json``."""

    step: Count
    validation: float


class Committed(Shape):
    """``COMMITTED`` of a checkpoint."""

    sha256: dict[FileName, Digest]


class Place(Shape):
    """A place in the training."""

    epoch: Count
    taken: list[tuple[Annotated[int, Field(ge=1)], Count]]


class Waited(Shape):
    """What a training with ``patience`` knows of its validations."""

    best: Number
    since: Count


class State(Shape):
    """``state.json`` of a checkpoint."""

    step: Count
    position: Place = Field(default_factory=lambda: Place(epoch=0, taken=[]))
    validation: Number = None
    patience: Waited | None = None


class TableSize(Shape):
    """Of an embedding table."""

    rows: Count
    dim: Count


class RunInfo(Shape):
    """``run.json``."""

    format: Count = 1
    joined: list[FileIdentity] | None = None
    base: Digest | None = None
    counted_elsewhere: list[FileIdentity] = Field(default_factory=list)
    folder: Annotated[str, Field(pattern=r"^/[^\x00]*$")] | None = None
    plan: str | None = None
    tables: dict[str, TableSize] = Field(default_factory=dict)
    codes: list[list[str]] = Field(default_factory=list)
    rows: Count | None = None
    parameters: Count | None = None
    world_size: Count | None = None
    seconds: Number = None
    ended_by_patience: bool = False


class EventFile(FileIdentity):
    """One file of the training events."""

    rows: list[Count] = Field(default_factory=list)


Events = dict[str, list[EventFile]]
"""``events.json``: domain -> its files."""


class CountedOf(Shape):
    """What kept statistics were counted of: training events, catalogs and content stores; and tables, where that was done elsewhere."""

    events: Events
    joined: list[FileIdentity]
    tables: list[FileIdentity] = Field(default_factory=list)


class MetricRow(Shape):
    """A domain, task and slice of an evaluation, and the numbers that the task is measured by.

    Attributes:
        deciles: mean score and mean label of each tenth of the rows, where the kind of task gives them.
    """

    domain: str
    task: str
    slice: str
    rows: Count
    deciles: list[tuple[float, float]] | None = None
    __pydantic_extra__: dict[str, Number]


class FoundRow(Shape):
    """A domain and slice of an evaluation of the next item."""

    domain: str
    slice: str
    rows: Count
    items: Count
    hr_5: Number = Field(alias="hr@5")
    hr_10: Number = Field(alias="hr@10")
    hr_20: Number = Field(alias="hr@20")
    ndcg_10: Number = Field(alias="ndcg@10")
    mrr_10: Number = Field(alias="mrr@10")
    popularity_hr_10: Number = Field(alias="popularity_hr@10")
    popularity_ndcg_10: Number = Field(alias="popularity_ndcg@10")
    distance_10: Number = Field(None, alias="distance@10")
    coverage_10: Number = Field(None, alias="coverage@10")
    gini_10: Number = Field(None, alias="gini@10")
    novelty_10: Number = Field(None, alias="novelty@10")
    listed_popularity_10: Number = Field(None, alias="listed_popularity@10")
    past_popularity: Number = None


class Slate(Shape):
    """How the best items are put into lists."""

    method: str
    weight: float
    pool: Count


class Protocol(Shape):
    """Among which items the next one is sought."""

    repeat: bool
    negatives: Count | None
    domain: str | None
    within_domains: bool = False
    width: Count | None = None
    slate: Slate | None = None
    alike: str | None = None


class Evaluation(Shape):
    """``evaluation.json``."""

    tasks: dict[str, Measures] = Field(default_factory=dict)
    rows: list[MetricRow] = Field(default_factory=list)
    next_item: list[FoundRow] = Field(default_factory=list)
    protocol: Protocol | None = None
    gates: dict[str, dict[str, dict[str, float]]] | None = None
    split: str = "test"
    checkpoint: Digest | None = None


class AlignedRow(Shape):
    """A measure of a domain's lists, before and after a preference alignment."""

    domain: str
    measure: str
    rows: Count
    users: Count
    before: Number = None
    after: Number = None
    difference: Number = None
    low: Number = None
    high: Number = None
    relative: Number = None


class Alignment(Shape):
    """``alignment.json``."""

    run: str
    reward: str
    split: str
    measures: list[AlignedRow]


class Among(Shape):
    """How many items the next one of a domain's rows is sought among, and a digest of those that take part."""

    items: Count
    digest: Digest


class Predicted(Shape):
    """What the predictions of a split were made from: the checkpoint's `identity`, domain -> files, among which items the next is sought,
    catalogs and content stores (None: of an earlier version), domain -> training files, where these say which items take part, and
    domain -> the items that there were, where a next one is sought."""

    split: str
    checkpoint: Digest
    files: dict[str, list[FileIdentity]]
    protocol: Protocol
    joined: list[FileIdentity] | None = None
    train: dict[str, list[FileIdentity]] = Field(default_factory=dict)
    candidates: dict[str, Among] = Field(default_factory=dict)


class ValidatedRow(MetricRow):
    """The same, after so many epochs."""

    step: Count = 0
    epoch: Annotated[float, Field(ge=0)]


class ValidatedFoundRow(FoundRow):
    """The same, after so many epochs."""

    step: Count = 0
    epoch: Annotated[float, Field(ge=0)]


class Validation(Shape):
    """``validation.json``."""

    tasks: dict[str, Measures] = Field(default_factory=dict)
    rows: list[ValidatedRow] = Field(default_factory=list)
    next_item: list[ValidatedFoundRow] = Field(default_factory=list)


class Sign(Shape):
    """A rank's sign of life."""

    doing: str
    seconds: float
    debugger: str | None = None


class StudyResult(Shape):
    """Of one training of a study; which version of foundrank made it and on which day, those of older versions do not say."""

    validation_auc: Number
    rate: float
    version: str | None = None
    day: str | None = None


class TuneInfo(Shape):
    """``tune.json``: what a folder's trials try, of which experiment."""

    experiment: dict[str, Any]
    space: dict[str, dict[str, Any]]
    objective: str
    seed: Count


class JobOf(Shape):
    """``_job.json`` of a folder of scores or recommendations."""

    input: list[FileIdentity] = Field(default_factory=list)
    catalogs_and_texts: list[FileIdentity] = Field(default_factory=list)


class Step(Shape):
    """A line of ``metrics.jsonl``."""

    step: Count
    loss: Number = None
    losses: dict[str, Number] | None = None
    next_item: Number = None
    alignment: Number = None
    samples_per_s: Number = None
    data_wait_share: Number = None
    step_ms: dict[str, Number] | None = None
    memory_mb: Number = None
    lr: Number = None
    gradient_norm: Number = None


def is_step(line: Any) -> bool:
    """Whether a JSON value is a line of ``metrics.jsonl``."""
    try:
        Step.model_validate(line)
    except ValidationError:
        return False
    return True
