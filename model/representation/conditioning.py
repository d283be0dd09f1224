"""What vectors of contents go through before they are projected: a fixed map, which a run keeps with its weights."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from ...data.config.sections.entities import ENTITIES
from ...data.contents.conditioning import Conditioning, fitted
from ...data.contents.content_table import ContentTable
from ...data.schema.layout import HISTORY, Layout
from ..layers.axes import layer_norm, linear
from ..layers.forms import normed_linear


class Conditioned(nn.Module):
    """A `Conditioning` as part of a model; until it is given one, it changes nothing.

    Its values are no parameters, but lie with them in checkpoints: what a projection has learnt holds in this basis alone.
    """

    mean: Tensor
    matrix: Tensor

    def __init__(self, name: str, size: int):
        """Args: name of the vectors in ``Batch.vectors``, and their width D."""
        super().__init__()
        self.name = name
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("matrix", torch.eye(size))

    def centred(self, vectors: Tensor) -> Tensor:
        """``[N, D]`` float32: the mean subtracted, and no more."""
        return vectors - self.mean

    def forward(self, vectors: Tensor) -> Tensor:
        """``[N, D]`` float32, centred and whitened."""
        with torch.autocast(vectors.device.type, enabled=False):
            return self.centred(vectors) @ self.matrix


class ContentProjection(nn.Sequential):
    """An aspect of a content: ``[N, D]`` -> ``[N, width]``, as `aspect_projection`, of vectors as the conditioning leaves them.

    The product with the conditioning's matrix falls to the weights, which are few, not to the rows. A mean of vectors may be given
    in their place: it is then the mean of what they become.
    """

    def __init__(self, name: str, size: int, width: int, conditioned: bool):
        """Args: name of the vectors in ``Batch.vectors``, their width, that of the aspect, and whether they are conditioned."""
        super().__init__(linear(size, width), layer_norm(width))
        self.conditioned = Conditioned(name, size) if conditioned else None

    def forward(self, vectors: Tensor) -> Tensor:
        project, norm = self[0], self[1]
        assert isinstance(project, nn.Linear)
        assert isinstance(norm, nn.LayerNorm)
        if self.conditioned is None:
            return normed_linear(vectors, project, norm)
        with torch.autocast(vectors.device.type, enabled=False):
            weight = project.weight.float() @ self.conditioned.matrix
        return normed_linear(self.conditioned.centred(vectors), project, norm, weight)


def fit_conditioning(contents: Mapping[str, ContentTable], layout: Layout, whiten: bool) -> dict[str, Conditioning]:
    """What each content in use goes through, by its name in ``Batch.vectors``, fitted on those of catalogs.

    Each distinct vector that some key has counts once: what a popular item says is no truer than what a rare one does, and all of
    those that the events do not show are items to come.

    Args:
        contents: as of `RowEncoder.contents`; those that come with the events are not among them, and stay as they are.
        layout: of the batches.
        whiten: as of `fitted`.
    """
    used = {name for owner in ENTITIES for name in layout.contents_of.get(owner, {}).values()} & contents.keys()
    used -= layout.codes.keys()
    tables = {name: contents[name] for name in sorted(used)}
    return {
        name: fitted(of.vectors, np.unique(of.row_of_key[of.row_of_key >= 0]), whiten) for name, of in tables.items()
    }


def condition(model: nn.Module, by_name: Mapping[str, Conditioning]) -> None:
    """Gives every `Conditioned` of a model its values, as of `fit_conditioning`; what is not among them changes nothing."""
    for module in model.modules():
        if isinstance(module, Conditioned) and module.name in by_name:
            module.mean.copy_(by_name[module.name].mean)
            module.matrix.copy_(by_name[module.name].matrix)


def own_vectors(layout: Layout) -> dict[str, str]:
    """Name in ``Batch.vectors`` of each content of an entity or of the history -> of those whose mean they are, or its own."""
    of = layout.contents_of
    own = {name: name for owner in ENTITIES for name in of.get(owner, {}).values() if name not in layout.codes}
    return own | {name: of["item"][content] for content, name in of.get(HISTORY, {}).items()}
