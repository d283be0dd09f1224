"""The dense part of a training step, forward and backward, as one graph that a GPU replays in place of its host."""

from dataclasses import replace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torchrec import KeyedTensor

from ...data.batch.batch import Batch
from ...data.errors import UserError
from ..layers.domain_rows import DomainRows
from ..layers.precision import chosen_precision
from .foundation import Dense
from .outputs import Outputs


class OneGraph:
    """Computes what `Dense.compute` does, as ``Dense.in_training``: compiled, as one graph that is the same for every batch.

    Rows are padded to as many as there are bags, so that all batches have one shape; padding is of no domain and has no labels. Which
    rows are a domain's is known on the device alone. On GPUs torch.compile compiles the graph in the first step, records it, backward
    included, in the next, and replays it from then on.

    Not for histories of items one by one, the next item, and list losses, whose shapes change with the batch: `check_parts` refuses these.
    """

    def __init__(self, dense: Dense, device: torch.device, **how: Any):
        """Args: the model's dense part; where it is; options of ``torch.compile`` in place of the one that records CUDA graphs."""
        dense.precision = chosen_precision(dense.precision, device)  # asking the device is no part of a graph
        self._dense, self._domains = dense, len(dense.layout.domains)
        self._how = how or {"mode": "reduce-overhead"}
        self._keys: tuple[list[str], list[int]] = [], []  # as pooled, which is the plan's affair, and stays
        self._compiled: Any = None  # not yet: who predicts alone imports no compiler

    def __call__(self, pooled: KeyedTensor, batch: Batch) -> tuple[Tensor, Outputs]:
        """Arguments and result as of `Dense.forward`.

        Raises:
            UserError: the model cannot be compiled; at the first step.
        """
        # For start-up time: a training that compiles nothing goes without.
        from torch._dynamo import config
        from torch._dynamo.exc import FailOnRecompileLimitHit, TorchDynamoException

        padded = _padded(batch, pooled.values().shape[0], self._domains)
        if self._compiled is None:
            self._compiled = torch.compile(self._step, fullgraph=True, dynamic=False, **self._how)
            self._keys = pooled.keys(), pooled.length_per_key()
            # What layers learn once, such as where keys stand, is no part of the graph. Nor are its random numbers.
            with torch.no_grad(), torch.random.fork_rng([batch.dense.device] if batch.dense.is_cuda else []):
                self._step(pooled.values(), batch.sparse.lengths(), padded)
        torch.compiler.cudagraph_mark_step_begin()  # what the step before has given is not looked at any more
        try:
            # Of a model on several ranks torch would make a graph for each megabytes of gradients, to sum these early.
            with config.patch(optimize_ddp=False):
                loss, outputs = self._compiled(pooled.values(), batch.sparse.lengths(), padded)
        except (TorchDynamoException, FailOnRecompileLimitHit) as error:
            raise UserError(
                "training.compile",
                f"the step cannot be made one graph here ({str(error).splitlines()[0]})",
                "Leave it out.",
            ) from error
        # Copies: the next step writes where these are, and those who watch a training keep them.
        told = outputs._replace(
            logits=outputs.logits[: batch.rows].clone(),
            losses=outputs.losses.clone(),
            counts=outputs.counts.clone(),
            alignment=outputs.alignment.clone(),
            gates={owner: of[: batch.rows].clone() for owner, of in outputs.gates.items()},
            next_item=outputs.next_item.clone(),
        )
        return loss, told

    def _step(self, values: Tensor, lengths: Tensor, batch: Batch) -> tuple[Tensor, Outputs]:
        rows = DomainRows.on_device(self._domains, batch.domains)
        sparse: Any = _Bags(lengths, values.shape[0])
        batch = replace(batch, sparse=sparse, domains=rows.of_row, domain_lengths=rows)
        return self._dense.compute(KeyedTensor(*self._keys, values), batch)


class _Bags(NamedTuple):
    """What the dense part asks of a batch's lookups."""

    all_lengths: Tensor
    bags: int

    def lengths(self) -> Tensor:
        return self.all_lengths

    def stride(self) -> int:
        return self.bags


def _padded(batch: Batch, rows: int, domains: int) -> Batch:
    """A batch of ``rows`` rows, without lookups; padding is of a domain behind all, and has no ids, vectors or labels."""
    more = rows - batch.rows

    def of(x: Tensor, value: float = 0) -> Tensor:
        return F.pad(x, (0, 0) * (x.dim() - 1) + (0, more), value=value).contiguous()

    return replace(
        batch,
        sparse=None,
        dense=of(batch.dense),
        vectors={name: of(each) for name, each in batch.vectors.items()},
        vector_present={name: of(each) for name, each in batch.vector_present.items()},
        id_counts=of(batch.id_counts, -1),
        labels=of(batch.labels),
        label_mask=of(batch.label_mask),
        domains=of(batch.domains, domains),
        domain_lengths=[],
        weights=None if batch.weights is None else of(batch.weights),
        host={},
    )
