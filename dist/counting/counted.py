"""What a training must know of its events: kept by another one of the same data, or counted by all ranks."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...data.batch.rate_counting import count_rates, earlier_rates
from ...data.config.experiment import Experiment
from ...data.counting.count_tables import CountTables
from ...data.counting.counting_pass import count_events, statistics_of
from ...data.counting.shares import SHARE_ROWS
from ...data.counting.statistics import Statistics
from ...data.events.event_files import EventFiles
from ..exchange.row_encoders import row_encoder
from ..fine_tuning.domain_profiles import domain_profiles
from ..fine_tuning.pretrained import Pretrained
from ..logs.progress import Progress
from ..ranks.runtime import ALONE, Runtime
from ..run.new_run import described
from .domain_items import with_domain_items
from .kept_counts import digest, keep_counts, kept_counts
from .labels import check_labels


def counted(
    experiment: Experiment,
    train: Mapping[str, EventFiles],
    before: Pretrained | None,
    counts: Path | None,
    runtime: Runtime = ALONE,
    pieces: Path | None = None,
    given: CountTables | None = None,
    is_increment: bool = False,
) -> tuple[Statistics, dict[str, Any]]:
    """What a training must know of its events, kept by another one of the same data or newly counted.

    Args:
        experiment: the experiment.
        train: domain -> its training files.
        before: the run that a fine-tuning begins with.
        counts: folder in which it is looked for, and into which it comes; None to count and keep nothing.
        runtime: the ranks that count, all of them.
        pieces: folder for what has been counted so far, which the caller removes once the result is kept; None to begin anew after an
            interruption.
        given: what was counted elsewhere, in place of counting ids and numbers here; ``counts`` is there, too, then.
        is_increment: whether ``before`` has seen none of the events, so that their rates may go on with what it has kept.

    Returns:
        The statistics, and what is known of the files, as of `create_run`. Rank 0 has all of it.

    Raises:
        UserError: bad data, a catalog or a content store that is bad.
    """
    statistics, noted = runtime.on_main(lambda: kept_counts(counts, experiment, train, given))
    so_far, events = None, None
    if statistics is None and pieces is not None:
        if "events" not in noted:  # which `kept_counts` has read, where there is a folder for counts
            noted = runtime.on_main(lambda: {"events": described(train)})
        so_far = pieces / _key(experiment, noted["events"], given)
    rows = sum(files.rows for files in train.values())
    if statistics is None:
        with Progress("counting the training events", "rows", rows, "counting", runtime.is_main) as done:
            events = count_events(experiment, train, _of_all(done, runtime), runtime, so_far, given)
        statistics = statistics_of(experiment, train, events)
        if counts is None or not runtime.is_main:
            events = None  # gives back its memory
    alone = statistics
    known = before.experiment if before is not None else None
    runtime.on_main(lambda: check_labels(experiment, alone, known))
    if before is not None:
        statistics = before.statistics.extended(statistics)
    encoder = row_encoder(experiment, statistics, runtime)  # finds bad catalogs and stores before there is a run
    statistics = replace(statistics, profiles=runtime.on_main(lambda: domain_profiles(encoder, train)))
    kept = statistics.rates is not None and statistics.rates.so_far is not None  # older versions have kept less
    if statistics.rate_columns and (before is not None or not kept):
        earlier = earlier_rates(before.statistics, encoder) if before is not None and is_increment else None
        with Progress("adding up rates", "rows", rows, "counting", runtime.is_main) as done:
            rates = count_rates(encoder, train, _moments(before), _of_all(done, runtime), runtime, earlier)
        statistics = replace(statistics, rates=rates)
    goes_on_from = before.statistics if before is not None and is_increment else None
    statistics = with_domain_items(experiment, statistics, train, runtime, goes_on_from)
    if events is not None and counts is not None:
        keep_counts(counts, experiment, alone if before is not None else statistics, events, noted)
    return statistics, noted


def _key(experiment: Experiment, events: Mapping[str, Any], given: CountTables | None) -> str:
    """What tells countings apart of which one cannot go on with the other's pieces: where counts are given, these hold labels alone."""
    alone = [] if given is None else ["labels alone"]
    checksums = {name: [file["checksum"] for file in files] for name, files in events.items()}
    return hashlib.sha256(json.dumps([digest(experiment), SHARE_ROWS, checksums, *alone]).encode()).hexdigest()[:16]


def _of_all(done: Progress, runtime: Runtime) -> Callable[[int], None]:
    """Takes what one rank has done for what each has; shares are not all of one size."""
    total = done.total or 0.0
    return lambda rows: done.add(min(rows * runtime.world_size, total - done.done))


def _moments(before: Pretrained | None) -> dict[str, tuple[float, float]]:
    """Of the rates of a run to fine-tune."""
    return before.statistics.rates.moments if before is not None and before.statistics.rates is not None else {}
