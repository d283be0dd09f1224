"""What a model says of all rows of some events, batch by batch."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import nn

from ...data.batch.batch import Batch
from ...data.batch.row_encoder import RowEncoder
from ...data.epoch.order import RankOrder, deal, ordered_chunks
from ...data.epoch.reader import Reader
from ...data.events.event_files import EventFiles
from ...data.prefetch import prefetch
from ...data.schema.sizes import padded_rows
from ...model.foundation.outputs import Outputs
from ..logs.progress import Progress
from ..ranks.runtime import Runtime


def predictions(
    model: nn.Module, encoder: RowEncoder, files: Mapping[str, EventFiles], runtime: Runtime
) -> Iterator[tuple[Outputs, Batch]]:
    """The model's outputs for this rank's batches of ``files``, on the device, and the batches, on the host.

    Every rank gets as many batches as the others; none where there are no rows. The model is not in training. ``row`` in `Batch.host` is
    the place of each row among all rows of its domain, whatever the ranks.
    """
    layout, training = encoder.layout, encoder.experiment.training
    by_position, dealt = _dealt(encoder, files, runtime.world_size)
    if not by_position:
        return
    order = dealt[runtime.rank]
    begins_at = {name: share.start for name, share in shares(encoder, files, runtime).items()}
    reached = np.array([begins_at.get(name, 0) for name in layout.domains])
    padded = padded_rows(training.batch_size, len(layout.domains))
    reader = Reader(encoder, by_position, padded, with_host=True, of_training=encoder.of_training)
    rows = sum(events.rows for events in by_position.values())
    with Progress("predicting", "rows", rows, "evaluation", runtime.is_main) as done:
        for batch in prefetch(reader.batches(order), training.prefetch_batches):
            with torch.no_grad():  # not around the yield: what the caller does is its own
                _, outputs = model(batch.to(runtime.device))
            lengths = np.array(batch.domain_lengths)
            begins = np.repeat(reached - np.cumsum(lengths) + lengths, lengths)
            batch.host["row"] = begins + np.arange(batch.rows)
            reached += lengths
            yield outputs, batch
            done.add(batch.rows * runtime.world_size)


def shares(encoder: RowEncoder, files: Mapping[str, EventFiles], runtime: Runtime) -> dict[str, range]:
    """Domain that has rows -> which of them, in the order of its files, `predictions` gives this rank."""
    by_position, dealt = _dealt(encoder, files, runtime.world_size)
    before = [sum(of_rank) for of_rank in zip(*(order.rows for order in dealt[: runtime.rank]), strict=True)]
    before = before or [0] * len(by_position)
    mine = dealt[runtime.rank].rows if by_position else []
    return {
        encoder.layout.domains[d]: range(first, first + rows)
        for d, first, rows in zip(by_position, before, mine, strict=True)
    }


def _dealt(
    encoder: RowEncoder, files: Mapping[str, EventFiles], ranks: int
) -> tuple[dict[int, EventFiles], Sequence[RankOrder]]:
    """Position of a domain that has rows -> its files; what each rank reads of them, each domain's rows in one piece."""
    by_position = {encoder.layout.domains.index(name): events for name, events in files.items() if events.rows}
    return by_position, deal(ordered_chunks(by_position), ranks, encoder.experiment.training.batch_size)
