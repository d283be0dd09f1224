"""`foundrank plan`: what a training will be on a cluster that need not be there."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from ...data.codes.code_store import BYTES_OF_A_CODE
from ...data.config.experiment import Experiment
from ...data.config.sections.entities import Stored
from ...data.contents.content_store import open_store, store_folder
from ...data.counting.counting_pass import count
from ...data.errors import UserError, nearest
from ...data.events.check_events import check_events
from ...data.schema.layout import Layout, id_key, make_layout
from ...data.vocabulary.encoding import Encoded
from ..report.terminal_tables import empty_table
from ..sharding.planner import bytes_of_tables
from .cluster import Cluster
from .footprint import PROCESS, Footprint, footprint

_GIB = 2**30
_MINILM = 384  # width of the shipped encoder's vectors
_MOST_RANKS = 1 << 14
_STEP_NOTE = "A step is reckoned from bandwidths and product rates alone; reading, start-up and the launching of kernels come on top."


@dataclass(frozen=True)
class Fit:
    """A plan on a cluster, and whether it fits; the reason if not."""

    cluster: Cluster
    footprint: Footprint | None
    why_not: str | None

    @property
    def fullest(self) -> int:
        """The rank that holds most."""
        assert self.footprint is not None
        return int(np.argmax(self.footprint.total))


def planned_layout(experiment: Experiment, rows: Mapping[str, int], text_size: int | None) -> Layout:
    """The layout of a training, with the rows of its tables as far as they are known or said.

    A hashed table has its buckets; of another one ``rows`` says how many ids there are. If it does not, the training events are
    counted.

    Args:
        experiment: the experiment.
        rows: table (``id_item``, ``feature_brand``) -> rows.
        text_size: width of contents' vectors, where there is no store yet.

    Raises:
        UserError: an unknown table, or one whose rows are neither said nor can be counted.
    """
    encodings: dict[str, Encoded] = {id_key(name): entity for name, entity in experiment.looked_up().items()}
    for name, feature in experiment.features().items():
        encodings |= feature.inputs(name).encodings
    for name in rows:
        if name not in encodings:
            raise UserError(f"--rows {name}", "is not a table of this experiment", nearest(name, encodings))
    known = {name: size for name, e in encodings.items() if (size := e.ids.table_rows()) is not None} | dict(rows)
    if unknown := [name for name in encodings if name not in known]:
        try:
            events = check_events(experiment)
        except UserError as error:
            raise UserError(
                error.where, error.what, f"Or say how many ids there are: --rows {unknown[0]}=1000000"
            ) from error
        without = {"aspects": ("id", "sparse"), "next_item": None}
        plain = experiment.model_copy(update={"model": experiment.model.model_copy(update=without)})
        counted = count(plain, {name: of_domain["train"] for name, of_domain in events.items()})
        known |= {name: counted.tables[name].rows for name in unknown}
    sizes = {of.name: _content_size(experiment, of, text_size) for of in experiment.stores_read()}
    return make_layout(experiment, {name: known[name] for name in encodings}, sizes)


def _content_size(experiment: Experiment, of: Stored, given: int | None) -> int:
    try:
        return open_store(store_folder(experiment, of)).size
    except UserError as error:
        encoder = experiment.encoder_of(experiment.stored()[of])
        shipped = _MINILM if encoder.encoder == "minilm" else None
        size = given or encoder.dimension or shipped
        if size is None:
            raise UserError(error.where, error.what, "Or say how wide the vectors will be: --text-size 1024") from error
        return size


def fit(layout: Layout, experiment: Experiment, cluster: Cluster) -> Fit:
    """Plans a training on a cluster and says whether it fits there."""
    try:
        planned = footprint(layout, experiment, cluster.ranks)
    except UserError as error:
        return Fit(cluster, None, f"{error.where}: {error.what}")
    return Fit(cluster, planned, planned.too_full(cluster.ranks))


def smallest(layout: Layout, experiment: Experiment, cluster: Cluster) -> Fit | None:
    """The same hosts, as few as it takes; None if no number of them will do."""
    per_host = int(cluster.model_copy(update={"world_size": _MOST_RANKS}).get("ranks_per_host"))
    sizes = [*range(1, per_host), *range(per_host, _MOST_RANKS + 1, per_host)]

    def at(position: int) -> Fit:
        return fit(layout, experiment, cluster.model_copy(update={"world_size": sizes[position]}))

    # No fewer than the tables' bytes take: every plan of fewer ranks would be in vain.
    needed = bytes_of_tables(layout, experiment) / cluster.ranks.bytes
    low = next((n for n, size in enumerate(sizes) if size >= needed), None)
    if low is None:
        return None
    step, found = 1, at(low)
    while found.why_not is not None:  # ever larger steps, then halves between the last two
        if low + step >= len(sizes):
            return None
        low, step = low + step, step * 2
        found = at(low)
    high, low = low, low - step // 2
    while high - low > 1:
        middle = (low + high) // 2
        tried = at(middle)
        if tried.why_not is None:
            high, found = middle, tried
        else:
            low = middle
    return found


def remedies(experiment: Experiment, tried: Fit, enough: Fit | None) -> list[str]:
    """What to change when a training does not fit."""
    out = []
    if enough is not None:
        hosts = -(-enough.cluster.world_size // int(enough.cluster.get("ranks_per_host")))
        out.append(f"{enough.cluster.world_size} ranks on {hosts} such host(s) are enough")
    training = experiment.training
    if training.sharding != "auto":
        out.append(f"training.sharding is {training.sharding}: auto or row_wise may split what does not fit")
    planned = tried.footprint
    if planned is not None and max(planned.dense.values()) > planned.bytes["tables"].max():
        out.append(f"training.batch_size is {training.batch_size}: activations and batches shrink with it")
    else:
        out.append(f"model.embedding_dim is {experiment.model.embedding_dim}: tables shrink with it")
        out.append("a higher min_count, or encoding: hash with fewer buckets, for the largest table")
    if training.sparse_optimizer == "adam":
        out.append("training.sparse_optimizer is adam: rowwise_adagrad keeps one number per row, not two per weight")
    return out


def step_ms(planned: Fit) -> dict[str, float]:
    """Estimated milliseconds of a step by part, of the slowest rank; reading is not in it."""
    found, cluster = planned.footprint, planned.cluster
    assert found is not None
    lookups = np.sum([table.ms - table.exchange_ms for table in found.tables.values()], 0).max()
    exchange = exchange_ms(planned)
    return {
        "table lookups and updates": float(lookups),
        "exchange of lookups": exchange["exchange of lookups"],
        "dense part": found.flops / (cluster.get("tflops") * 1e12) * 1e3,
        "exchange of dense gradients": exchange["exchange of dense gradients"],
    }


def exchange_ms(planned: Fit) -> dict[str, float]:
    """Of `step_ms`, what goes between ranks."""
    found, cluster = planned.footprint, planned.cluster
    assert found is not None
    ranks = cluster.ranks
    network = cluster.get("inside_gb_s" if ranks.count <= ranks.per_host else "between_gb_s")
    gradients = 2 * found.dense_parameters * 4 * (ranks.count - 1) / ranks.count
    return {
        "exchange of lookups": float(np.sum([table.exchange_ms for table in found.tables.values()], 0).max()),
        "exchange of dense gradients": gradients / (network * 1e9) * 1e3,
    }


def plan(
    experiment: Experiment,
    cluster: Cluster,
    rows: Mapping[str, int],
    text_size: int | None,
    console: Console,
    report: Path | None,
) -> bool:
    """Prints what a training will be on a cluster; whether it fits.

    Args:
        experiment: the experiment; its data need not be there if ``rows`` says what would be counted.
        cluster: the ranks.
        rows: as for `planned_layout`.
        text_size: likewise.
        console: where to print.
        report: HTML file to write as well.

    Raises:
        UserError: as `planned_layout`.
    """
    layout = planned_layout(experiment, rows, text_size)
    tried = fit(layout, experiment, cluster)
    enough = smallest(layout, experiment, cluster)
    if tried.footprint is not None:
        for table in (_tables(layout, experiment, tried.footprint), _memory(tried), _steps(tried, experiment)):
            console.print(table)
    for of, content in experiment.coded().items():
        items, levels = layout.item_rows - 1, len(content.codes.sizes)
        held = items * levels * BYTES_OF_A_CODE / _GIB
        told = f"{of}: {items:,} items of {levels} codes, {held:,.3f} GiB on each host, mapped from its disk"
        console.print(told, highlight=False)
    if tried.why_not is not None:
        console.print(
            f"does not fit {cluster.world_size} rank(s) of {cluster.device}: {tried.why_not}", highlight=False
        )
        for remedy in remedies(experiment, tried, enough):
            console.print(f"  - {remedy}", highlight=False)
    elif enough is not None:
        console.print(_STEP_NOTE, highlight=False)
        console.print(
            f"fits {cluster.world_size} rank(s) of {cluster.device}; the smallest number that does is "
            f"{enough.cluster.world_size}",
            highlight=False,
        )
        if experiment.seeds > 1:
            assert tried.footprint is not None
            together = (
                f"where they predict all are in memory, {tried.footprint.predicting.max() / _GIB:,.3f} GiB on a rank"
            )
            console.print(f"{experiment.seeds} models are trained one after the other; {together}", highlight=False)
    if report is not None and tried.footprint is not None:
        from .plan_page import write_plan  # Jinja comes with it, which a plan in the terminal starts without

        write_plan(report, experiment, tried.cluster, tried.footprint, step_ms(tried))
        console.print(f"report: {report}", highlight=False)
    return tried.why_not is None


def _tables(layout: Layout, experiment: Experiment, found: Footprint) -> Table:
    table = empty_table("Tables", ["table"], ["rows", "GiB", "sharding", "ranks", "most on a rank"])
    width = experiment.model.embedding_dim
    for name, share in sorted(found.tables.items(), key=lambda item: -layout.tables[item[0]]):
        rows = layout.tables[name]
        table.add_row(
            name,
            f"{rows:,}",
            f"{rows * width * experiment.training.table_bytes / _GIB:,.2f}",
            share.kind,
            f"{np.count_nonzero(share.weights)}",
            f"{share.weights.max() / _GIB:,.2f} GiB",
        )
    return table


def _memory(tried: Fit) -> Table:
    found, cluster = tried.footprint, tried.cluster
    assert found is not None
    table = empty_table(
        f"Memory per rank (of {cluster.ranks.bytes / _GIB:.1f} GiB)", ["part"], ["fullest rank", "mean"]
    )
    every = found.bytes | {"process": np.full(cluster.world_size, PROCESS[cluster.ranks.device])}
    for part, held in every.items():
        table.add_row(part, f"{held[tried.fullest] / _GIB:,.3f} GiB", f"{held.mean() / _GIB:,.3f} GiB")
    table.add_section()
    total = np.sum(list(every.values()), 0)
    table.add_row(
        f"all; rank {tried.fullest} is fullest", f"{total.max() / _GIB:,.3f} GiB", f"{total.mean() / _GIB:,.3f} GiB"
    )
    return table


def _steps(tried: Fit, experiment: Experiment) -> Table:
    table = empty_table("A step, at best", ["part"], ["ms"])
    parts = step_ms(tried)
    for name, ms in parts.items():
        table.add_row(name, f"{ms:,.2f}")
    table.add_section()
    total = sum(parts.values())
    rows = experiment.training.batch_size * tried.cluster.world_size
    table.add_row(f"all: {rows / total * 1e3:,.0f} samples/s", f"{total:,.2f}")
    return table
