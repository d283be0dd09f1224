"""What reading and writing hold in a rank's memory, beside the model: row groups above all, which are read whole.

Reckoned from the footers and from the first rows of a few files. With the model and the process itself, trainings, evaluations and
scoring jobs on row groups of 16,000 to 2 million rows held 0.69 to 0.88 of what is reckoned: to be killed is worse than to be refused.
"""

from collections.abc import Mapping, Sequence
from itertools import islice

from ...data.config.experiment import Experiment
from ...data.contents.leading_directions import DIRECTIONS
from ...data.epoch.reader import CACHE_SHARE
from ...data.errors import UserError
from ...data.events.event_files import EventFiles, iterate_group, open_parquet
from ...data.schema.column_needs import needed_columns
from ...data.schema.layout import Layout
from ..score.scoring_input import ROWS_AT_A_TIME
from ..sharding.planner import Ranks
from .footprint import PROCESS

_LOOKED_AT = 4096  # rows, of three files at most
_ARROW, _ENCODED = (
    3.0,
    2.0,
)  # copies of a row group that there are at a time: as it was read, and as it goes into batches
_OUTPUT = 2.4  # copies of a part's scores: as computed, and as written
_STORED = 0.3  # of the bytes of a row group, what it takes in its file
_PREDICTED, _OF_TASK = 64, 24  # bytes that are kept of a row for its metrics, and of each of its tasks


def arrow_bytes(files: EventFiles, columns: Sequence[str]) -> float:
    """Bytes that a row's columns take when they are read; the most of the first rows of a few files."""
    with_rows = [file for file, groups in zip(files.files, files.group_rows, strict=True) if sum(groups)]
    most = 0.0
    for file in {one for one in (with_rows[:1] + with_rows[len(with_rows) // 2 :][:1] + with_rows[-1:])}:
        there = [name for name in dict.fromkeys(columns) if name in open_parquet(file).schema_arrow.names]
        for table in islice(iterate_group(file, 0, there, _LOOKED_AT), 1):
            most = max(most, table.nbytes / max(table.num_rows, 1))
    return most


def encoded_bytes(layout: Layout) -> float:
    """Bytes of an encoded row, but for its lists."""
    contents = {name for of_owner in layout.contents_of.values() for name in of_owner.values()}
    vectors = sum(size for name, size in layout.vectors.items() if name not in contents)
    return (
        4.0 * (layout.singles + len(layout.dense) + len(layout.entities) + vectors)
        + 8 * len(contents)
        + (9 if layout.weighted else 5) * len(layout.tasks)
    )


def largest_group(files: EventFiles) -> int:
    """Rows of the largest row group."""
    return max((rows for groups in files.group_rows for rows in groups), default=0)


def held_by_reader(experiment: Experiment, layout: Layout, files: Mapping[str, EventFiles], ranks: Ranks) -> float:
    """Bytes that a rank's reader holds at most: the row group that it reads, and those it keeps. Of a training or an evaluation."""
    fixed, largest, kept = encoded_bytes(layout), 0.0, 0.0
    for name, of_domain in files.items():
        arrow = arrow_bytes(of_domain, [need.name for need in needed_columns(experiment, name)])
        largest = max(largest, largest_group(of_domain) * (_ARROW * arrow + _ENCODED * fixed))
        kept += of_domain.rows / ranks.count * (arrow / 2 + fixed)
    compared = len(experiment.compared()) if experiment.model.similarity is not None else 0
    along = 4.0 * DIRECTIONS * layout.item_rows * compared
    return largest + min(kept, ranks.host_bytes * CACHE_SHARE) + along


def held_by_metrics(layout: Layout, rows: int, ranks: Ranks) -> float:
    """Bytes of a rank's share of the predictions of so many rows, and of what is sent of it; of kinds of tasks that cannot be measured
    apart, one rank may have all."""
    count = ranks.count if all(kind.spreads for kind in layout.task_kinds) else 1
    return 2.0 * rows / count * (_PREDICTED + _OF_TASK * len(layout.tasks))


def held_by_scorer(layout: Layout, files: EventFiles, read: Sequence[str], passed_on: Sequence[str]) -> float:
    """Bytes that a rank holds of the part it scores.

    Args:
        layout: of the run.
        files: of the input.
        read: columns of it that are read.
        passed_on: those that are in the output.
    """
    written = arrow_bytes(files, passed_on) + 4 * len(layout.tasks) + 12
    arrow, rows = arrow_bytes(files, read), largest_group(files)
    at_a_time = min(ROWS_AT_A_TIME, rows) * (_ARROW * arrow + _ENCODED * encoded_bytes(layout))
    return rows * (_OUTPUT * written + _STORED * arrow) + at_a_time


def check_held(held: float, on_device: float, ranks: Ranks, mostly: str, remedy: str) -> str:
    """What a rank holds, in words.

    Args:
        held: bytes on the host, without the process itself.
        on_device: bytes of the model, on the host as well where there is no other device.
        ranks: what they have.
        mostly: what takes most.
        remedy: where it does not fit.

    Raises:
        UserError: it is more than there is.
    """
    process = PROCESS[ranks.device]
    total = process + held + (on_device if ranks.device == "cpu" else 0)
    said = f"about {total / 2**30:.2f} GiB of memory a rank, which has {ranks.host_bytes / 2**30:.2f}"
    if total > ranks.host_bytes:
        parts = f"{process / 2**30:.2f} for Python and its libraries, the rest mostly for {mostly}"
        raise UserError(f"{ranks.count} rank(s) of {ranks.host_bytes / 2**30:.1f} GiB", f"need {said}: {parts}", remedy)
    return said
