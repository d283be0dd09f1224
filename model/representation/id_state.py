"""What becomes of the id aspect where no id is known: it is hidden in training, and something else stands in for it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ..layers.axes import declare, linear
from .sparse_aspect import aspect_projection


@dataclass(frozen=True)
class Hiding:
    """Which ids are hidden in training: of an id that was seen n times, the share p + (1 - p) k / (k + n).

    Popular ids fill most rows, so a share of the rows alone would show the model unknown ids that are like popular ones; new ones
    are rather like rare ones.

    Attributes:
        share: p, of the rows whatever the id.
        rare: entity -> k; an id that was seen as often as that is hidden at least half of the time. 0 where rarity is no matter.
    """

    share: float
    rare: Mapping[str, float] = field(default_factory=dict)

    def hide(self, entity: str, present: Tensor, counts: Tensor) -> Tensor:
        """``present [N, A]`` with column 0 cleared in random rows; a row keeps an id that is all it has. Counts ``[N]`` float32."""
        rare = self.rare.get(entity, 0.0)
        if not (self.share or rare):
            return present
        share = self.share + (1 - self.share) * rare / (counts + rare) if rare else self.share
        hidden = (torch.rand_like(counts) < share) & present[:, 1:].any(1)
        return torch.cat([(present[:, 0] & ~hidden)[:, None], present[:, 1:]], 1)


class UnknownId(nn.Module):
    """A learned vector as the id aspect of what is known by other aspects alone.

    Beyond the paper's description. A gate that leaves the missing id's weight to the other aspects lets these speak two or three
    times as loud as where there is an id, which is where they learn. It begins at zero, where the id has nothing to say.
    """

    def __init__(self, width: int):
        super().__init__()
        self.vector = nn.Parameter(torch.zeros(width))
        declare(self, {"vector": ("width",)})

    def forward(self, aspects: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """Args: ``[N, A, D]`` with the id first, ``[N, A]`` bool. Returns both."""
        lacks = ~present[:, 0] & present.any(1)
        ids = torch.where(lacks[:, None], self.vector, aspects[:, 0])
        there = torch.cat([(present[:, 0] | lacks)[:, None], present[:, 1:]], 1)
        return torch.cat([ids[:, None], aspects[:, 1:]], 1), there


class IdFromText(nn.Module):
    """Predicts an entity's id aspect from its text, and puts the prediction where there is no id to look up.

    Of an entity with several contents, it is the mean of those that are there that predicts.

    Beyond the paper; the idea of a warm-up that generates embeddings for new ids is that of Pan et al. (2019). The loss
    moves the prediction alone, not what is predicted; id dropout lets the rest of the model learn to use it.
    """

    def __init__(self, width: int, contents: int):
        super().__init__()
        self.contents = contents
        self.predict = nn.Sequential(linear(width, width), nn.ReLU(), aspect_projection(width, width))

    def forward(self, aspects: Tensor, present: Tensor, counts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Args: ``[B, A, D]`` with the id first and the contents behind it, ``[B, A]`` bool, ``[B]``. Returns both, and the summed
        error of the rows whose id was seen: mean squared difference, a scalar."""
        has_text, seen, text = present[:, 1], counts > 0, aspects[:, 1]
        if self.contents > 1:
            there = present[:, 1 : 1 + self.contents]
            has_text = there.any(1)
            text = (aspects[:, 1 : 1 + self.contents] * there[:, :, None]).sum(1) / there.sum(1).clamp_min(1)[:, None]
        predicted = self.predict(text)
        errors = (predicted - aspects[:, 0].detach()).square().mean(1)
        stands_in = has_text & ~present[:, 0]
        ids = torch.where(stands_in[:, None], predicted, aspects[:, 0])
        aspects = torch.cat([ids[:, None], aspects[:, 1:]], 1)
        present = torch.cat([(present[:, 0] | stands_in)[:, None], present[:, 1:]], 1)
        return aspects, present, (errors * (has_text & seen)).sum()
