"""What a model's outputs say of rows, as columns of scores: of the tasks, or of each row's item as the next one."""

import numpy as np
import pyarrow as pa
import torch
from torch import nn

from ...data.arrow.ids import id_keys
from ...data.batch.row_encoder import RowEncoder
from ...model.foundation.outputs import Outputs
from ...model.tasks.task_columns import TaskColumns
from ..ranks.runtime import Runtime
from ..retrieval.protocol import NEXT_ITEM
from ..retrieval.retrieval import Retriever
from ..run.finite import usable


def row_scores(
    model: nn.Module, encoder: RowEncoder, runtime: Runtime, retriever: Retriever | None = None
) -> "TaskScores | NextItemScores":
    """The scores of a run's tasks; of one that has none, those of the next item. A collective.

    Args:
        model: not in training.
        encoder: of its experiment.
        runtime: the process group.
        retriever: of the model, where there is one already.
    """
    if encoder.layout.tasks:
        return TaskScores(encoder)
    return NextItemScores(retriever or Retriever(model, encoder, runtime), encoder)


class TaskScores:
    """Scores of all tasks.

    Attributes:
        names: T, of the scores.
        has: ``[domains, T]`` bool, which domain has which.
        has_output: ``[domains, O]`` bool, of the model's outputs that scores are made of.
    """

    def __init__(self, encoder: RowEncoder):
        layout, domains = encoder.layout, encoder.experiment.domains
        self.names = layout.tasks
        self.has = np.array([[task in domains[name].tasks for task in self.names] for name in layout.domains])
        self.has_output = self.has[:, list(layout.output_tasks)]
        self._tasks = TaskColumns(layout.task_kinds, layout.task_scales, layout.task_parents)

    def places(self, table: pa.Table) -> np.ndarray:
        """``[N]`` int64: where each row's item is among those that can be scored, and -1 where it cannot; to a task any is the same."""
        return np.zeros(table.num_rows, np.int64)

    def outputs(self, said: Outputs, places: np.ndarray) -> np.ndarray:
        """``[B, O]`` of a batch; the mean of several of these is what domains say together."""
        return said.logits.float().cpu().numpy()

    def scores(self, outputs: np.ndarray) -> np.ndarray:
        """``[N, T]``, NaN where no number comes out."""
        return self._tasks.scores(torch.from_numpy(outputs)).numpy()


class NextItemScores:
    """The score of each row's item as the next one of its user, as recommendations have it, in domains with users; attributes as of
    `TaskScores`."""

    def __init__(self, retriever: Retriever, encoder: RowEncoder):
        self.names = (NEXT_ITEM,)
        domains = encoder.experiment.domains
        self.has = self.has_output = np.array([[domains[name].users] for name in encoder.layout.domains])
        self._retriever, self._item = retriever, encoder.experiment.entities.item.id
        self._unknown = (retriever.unknown & ~retriever.no_number).cpu().numpy()

    def places(self, table: pa.Table) -> np.ndarray:
        """As of `TaskScores`: an item cannot be scored if it is none of those there are, or nothing is known of it."""
        keys, valid = id_keys(table[self._item])
        places = np.where(valid, self._retriever.place_of_keys(keys), -1).astype(np.int64)
        known = places >= 0
        known[known] = ~self._unknown[places[known]]
        return np.where(known, places, -1)

    def outputs(self, said: Outputs, places: np.ndarray) -> np.ndarray:
        """As of `TaskScores`, ``[B, 1]``; NaN where no number came out of user or item."""
        assert said.user is not None
        users = said.user.float()
        at = torch.from_numpy(places).to(users.device)
        scores = self._retriever.ranking.pairs(users, at.clamp_min(0)[:, None])[:, 0]
        fine = usable(users) & (at >= 0) & ~self._retriever.no_number[at.clamp_min(0)]
        return torch.where(fine, scores, torch.nan)[:, None].cpu().numpy()

    def scores(self, outputs: np.ndarray) -> np.ndarray:
        """As of `TaskScores`."""
        return outputs
