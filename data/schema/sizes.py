"""Sizes of what is in a batch: widths of contents, rows of a step, keys that hold candidates."""

from collections.abc import Iterable, Mapping

from ..config.experiment import Experiment
from ..config.sections.entities import Stored
from ..content_kinds.codes import Codes
from ..content_kinds.vector import Vector
from .batch_keys import id_key


def content_sizes_of(experiment: Experiment, stored: Mapping[str, int]) -> dict[Stored, int]:
    """The contents in a batch, and the widths of their vectors; ``stored`` as of `make_layout`."""
    sizes = {}
    for entity, config in experiment.entities.present().items():
        for name, content in config.every_content().items():
            if isinstance(content, Codes):
                size = len(content.codes.sizes) if Stored(entity, name) in experiment.coded() else None
            elif not isinstance(content, Vector):
                size = stored.get(Stored(entity, name).name)
            else:
                size = content.size if experiment.takes(entity, name) else None
            if size:
                sizes[Stored(entity, name)] = size
    return sizes


def padded_rows(batch_size: int, domains: int, longest: Iterable[int] = ()) -> int:
    """Most rows a step can have: rounding may add one row per domain to the batch size, and where lists stay whole, all but one of
    the domain's longest; ``longest`` has the rows of each of these.
    """
    return batch_size + domains + sum(rows - 1 for rows in longest)


def candidate_keys(experiment: Experiment, tables: Mapping[str, int]) -> int:
    """How many keys it takes to hold a step's negatives."""
    objective = experiment.model.next_item
    if objective is None or experiment.model.target is not None:
        return 0
    wanted = tables[id_key("item")] - 1 if objective.loss == "softmax" else objective.negatives
    return -(-wanted // padded_rows(experiment.training.batch_size, len(experiment.domains)))
