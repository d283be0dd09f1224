"""What a study has measured of a data set: a JSON beside the report, which is drawn from these files alone.

So data sets can be measured on different days and machines, and the report is whole all the same.
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator

from ...data.errors import UserError
from ...data.storage.json_documents import Shape, parse_shape
from ...data.storage.local_writes import write_text
from ..run.run_documents import Count
from .arms import FULL, DataSet, of_share

# NaN, which JSON does not have, is null in the file.
Number = Annotated[float, BeforeValidator(lambda value: math.nan if value is None else value)]
Mean = tuple[Number, Number]
"""Over seeds, with its standard error."""
Gap = tuple[Number, Number, Number]
"""A difference with its 95 % interval; NaN for no rows."""


class Conditions(Shape):
    """How something was measured.

    Attributes:
        versions: of foundrank that trained the models.
        days: first and last on which a training ended, or one; none where no training says.
        seeds: of the full model that are done, be it more than were asked for last.
        rows: most rows of a domain's splits; 0 for all.
    """

    versions: list[str]
    days: list[str]
    seeds: Count
    rows: Count


class Lead(Shape):
    """What the full model is ahead of an arm by, on all rows and on cold items; of next items by NDCG@10, on cold ones by percentile."""

    all: Gap
    cold: Gap


class LeadOfLabels(Lead):
    """What it is ahead by on warm items, too."""

    warm: Gap


class ArmOfLabels(Shape):
    """Test AUCs of an arm: means over domains and tasks.

    Attributes:
        rate: the learning rates' factor.
        seeds: how many are done.
        all, cold, warm: on all rows; on those of items that training has not seen, and has.
        new_domain: in the new domain.
        seen: by how often the item was seen.
        lead: None for the full model, and for arms that are about the new domain.
        over_single: what it is ahead by, in the new domain, of that domain alone with the same rows; None where that is not asked.
    """

    rate: Number
    seeds: Count
    all: Mean
    cold: Mean
    warm: Mean
    new_domain: Mean
    seen: dict[str, Mean]
    lead: LeadOfLabels | None
    over_single: Gap | None


class ArmOfNextItems(Shape):
    """Of an arm that seeks the next item; fields as in `ArmOfLabels`."""

    rate: Number
    seeds: Count
    ndcg: Number
    cold_percentile: Number
    cold_ndcg: Number
    lead: Lead | None


class Oracle(Shape):
    """AUC of the true probabilities; NaN where they are not known."""

    cold: Number
    new_domain: Number
    seen: dict[str, Number]


class Measured(Shape):
    """Of one data set.

    Attributes:
        data: its name.
        on: how it was measured.
        unfinished: arm -> seeds that are done and seeds that it is to have.
        paper: what it says of the paper's directions.
        parts: what each part of the model, and pretraining, brings.
    """

    data: str
    on: Conditions
    unfinished: dict[str, tuple[Count, Count]]
    paper: dict[str, Gap]
    parts: dict[str, Gap]


class MeasuredLabels(Measured):
    """Of a data set with a new domain."""

    new_domain: str
    arms: dict[str, ArmOfLabels]
    oracle: Oracle

    def of_share(self, line: str, fraction: float) -> ArmOfLabels | None:
        """An arm on a share of the new domain's rows; None where it is not measured."""
        return self.arms.get(of_share(line, fraction))


class MeasuredNextItems(Measured):
    """Of a data set in which the next item is sought: ``rows`` test rows, ``cold_rows`` of them of items not seen in training."""

    rows: Count
    cold_rows: Count
    arms: dict[str, ArmOfNextItems]


def write_measured(found: Measured, folder: Path) -> None:
    """Writes a data set's file in place of the one that is there."""
    write_text(folder / f"{found.data}.json", _laid_out(json.loads(found.model_dump_json())))


def read_measured(folder: Path, data_sets: Sequence[DataSet]) -> list[MeasuredLabels | MeasuredNextItems]:
    """What has been measured of those data sets that have a file, in their order.

    Raises:
        UserError: a file is damaged, of another data set than its name says, or of none of the study's.
    """
    remedy = "Restore it, or remove it and measure the data set again."
    names = [data.name for data in data_sets]
    for path in sorted(folder.glob("*.json")):
        if path.stem not in names:
            raise UserError(path, "is of no data set of the study", f"Move it elsewhere. They are: {', '.join(names)}.")
    out = []
    for data in data_sets:
        path = folder / f"{data.name}.json"
        if not path.is_file():
            continue
        shape = MeasuredNextItems if data.cold is None else MeasuredLabels
        found = parse_shape(path.read_bytes(), path, shape, remedy)
        if found.data != data.name:
            raise UserError(path, f"is of data set '{found.data}'", remedy)
        if FULL not in found.arms:
            raise UserError(path, f"is damaged (arms: without '{FULL}')", remedy)
        out.append(found)
    return out


def _laid_out(plain: dict[str, Any]) -> str:
    """JSON with a line for each arm and each direction, for people who look at differences between versions of the file."""

    def told(value: Any) -> str:
        return json.dumps(value, ensure_ascii=False)

    fields = []
    for name, value in plain.items():
        text = told(value)
        if isinstance(value, dict) and value:
            text = "{\n" + ",\n".join(f"  {told(key)}: {told(each)}" for key, each in value.items()) + "\n }"
        fields.append(f" {told(name)}: {text}")
    return "{\n" + ",\n".join(fields) + "\n}\n"
