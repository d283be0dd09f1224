"""The batch: what the reader yields and the model takes."""

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torchrec import KeyedJaggedTensor
from torchrec.streamable import Pipelineable

from ..groups.groups import Groups
from .past_items import Past
from .result_lists import ResultLists


@dataclass
class Batch(Pipelineable):
    """B rows of several domains, grouped by domain.

    ``sparse`` alone may be padded with empty bags to ``P >= B`` bags per key, because row-wise sharding exchanges
    equally sized pieces between ranks; rows B and beyond of a lookup belong to no sample.

    Attributes:
        sparse: ``[keys x P]`` bags of table rows; an id that is missing is an empty bag, one never seen is row 0.
        dense: ``[B, dense]`` float32, standardised; 0 where missing.
        vectors: name -> ``[B, size]`` float16 or float32; zeros where missing.
        vector_present: name -> ``[B]`` bool.
        id_counts: ``[B, entities]`` float32: how often the id was seen in training; 0: never; -1: no id in this row.
        labels: ``[B, tasks]`` float32; 0 where masked.
        label_mask: ``[B, tasks]`` bool: the row's domain has the task and the row has its label.
        weights: ``[B, tasks]`` float32 from 0 up, how much each label counts; None where all count 1.
        domains: ``[B]`` int64, non-decreasing.
        domain_lengths: rows per domain (all domains, zeros included); sums to B. Stays on the host.
        host: columns for the metrics, NumPy ``[B]``; stays on the host and is empty during training.
        past: the past items one by one, for models that take them so; else None.
        lists: which rows make a list, where a domain of the batch has its lists whole; else None.
        groups: the rows' candidates, where preferences among them are learnt; else None.

    A small one, two domains, keys ``id_user`` and ``history``, B = 3, P = 4::

        sparse:  id_user  [[7], [2], [0], []]        domains:        [0, 0, 1]
                 history  [[3, 5], [], [9], []]      domain_lengths: [2, 1]
    """

    sparse: KeyedJaggedTensor
    dense: Tensor
    vectors: dict[str, Tensor]
    vector_present: dict[str, Tensor]
    id_counts: Tensor
    labels: Tensor
    label_mask: Tensor
    domains: Tensor
    domain_lengths: list[int]
    host: dict[str, np.ndarray] = field(default_factory=dict)
    past: Past | None = None
    weights: Tensor | None = None
    lists: ResultLists | None = None
    groups: Groups | None = None

    @property
    def rows(self) -> int:
        """B."""
        return self.domains.shape[0]

    def _map(self, change) -> "Batch":
        return Batch(
            sparse=change(self.sparse),
            dense=change(self.dense),
            vectors={k: change(v) for k, v in self.vectors.items()},
            vector_present={k: change(v) for k, v in self.vector_present.items()},
            id_counts=change(self.id_counts),
            labels=change(self.labels),
            label_mask=change(self.label_mask),
            domains=change(self.domains),
            domain_lengths=self.domain_lengths,
            host=self.host,
            past=None if self.past is None else self.past.changed(change),
            weights=None if self.weights is None else change(self.weights),
            lists=None if self.lists is None else self.lists.changed(change),
            groups=None if self.groups is None else self.groups.changed(change),
        )

    def to(self, device: torch.device, non_blocking: bool = False) -> "Batch":
        """The batch on ``device``; ``domain_lengths`` and ``host`` stay where they are."""
        return self._map(lambda x: x.to(device=device, non_blocking=non_blocking))

    def pin_memory(self) -> "Batch":
        """The batch in page-locked memory, for asynchronous copies to a GPU."""
        return self._map(lambda x: x.pin_memory())

    def record_stream(self, stream: torch.Stream) -> None:
        """Keeps the memory alive until ``stream`` has used it."""
        self.sparse.record_stream(stream)  # type: ignore[arg-type]
        tensors = (self.dense, self.id_counts, self.labels, self.label_mask, self.domains)
        past = () if self.past is None else self.past.tensors()
        weights = () if self.weights is None else (self.weights,)
        lists = () if self.lists is None else (self.lists.of_row, self.lists.lengths)
        groups = () if self.groups is None else self.groups.tensors()
        of_columns = (*self.vectors.values(), *self.vector_present.values())
        for tensor in (*tensors, *of_columns, *past, *weights, *lists, *groups):
            tensor.record_stream(stream)  # type: ignore[arg-type]
