"""Residual quantisation of what an autoencoder makes of the vectors, both learnt together."""

import itertools
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from ...data.arrow.ids import mix
from ...data.content_kinds.codes import OF_ALIKE_OR_DEALT, OfVectors, Values
from ...data.settings_base import Positive
from .items import Codebook, Items
from .k_means import distances, k_means, nearest, quantised

COMMITMENT = 0.25
_SAMPLE = 1 << 17  # items it learns from
_DEAD_FOR = 1  # epochs without an item, after which a value is seeded anew


class RqVae(OfVectors):
    """RQ-VAE (Lee et al., 2022; for semantic ids TIGER, Rajput et al., 2023): straight-through, begun by k-means, dead values seeded
    anew. One rank learns it, from up to 131,072 items."""

    method: Literal["rq_vae"] = "rq_vae"
    levels: int = Field(default=3, ge=1, le=16, description="levels of codes")
    size: Values = Field(default=256, description="values of each")
    hidden: tuple[Positive, ...] = Field(default=(256, 128), description="widths of the encoder's layers")
    latent: Positive = Field(default=32, description="width of what is quantised")
    epochs: Positive = Field(default=60, description="passes over the items")
    batch_size: Positive = Field(default=1024, description="items per step")
    learning_rate: float = Field(default=1e-3, gt=0, description="of Adam")
    unique: Literal["digit", "sinkhorn", "shared"] = Field(default="digit", description=OF_ALIKE_OR_DEALT)  # type: ignore[assignment]

    @property
    def values(self) -> tuple[int, ...]:
        return (self.size,) * self.levels

    def fit(self, items: Items) -> Codebook:
        """The encoder's weights, and centroids ``[L, V, latent]``. Every rank learns the same."""
        x = items.at(np.sort(items.sample(_SAMPLE)))
        sizes = [x.shape[1], *self.hidden, self.latent]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(items.seed)
            encoder, decoder = _layers(sizes), _layers(sizes[::-1])
        centroids = nn.Parameter(self._begin(encoder(x).detach(), items))
        optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters(), centroids], self.learning_rate)
        unused = torch.zeros(self.levels, self.size, dtype=torch.int64)
        for epoch in range(self.epochs):
            order = torch.randperm(len(x), generator=items.generator(1000 + epoch))
            used = torch.zeros(self.levels, self.size, dtype=torch.bool)
            for batch in order.split(self.batch_size):
                latent = encoder(x[batch])
                quantised, codes, off = _straight_through(latent, centroids)
                loss = F.mse_loss(decoder(quantised), x[batch], reduction="sum") + off
                optimizer.zero_grad()
                (loss / len(batch)).backward()
                optimizer.step()
                used[torch.arange(self.levels), codes] = True
            unused = torch.where(used, 0, unused + 1)
            if epoch + 1 < self.epochs and bool((unused >= _DEAD_FOR).any()):
                self._seed_anew(encoder(x).detach(), centroids, unused >= _DEAD_FOR, items.generator(5000 + epoch))
            items.told(len(x))
        state = {f"encoder.{name}": value for name, value in encoder.state_dict().items()}
        return state | {"centroids": centroids.detach().clone()}

    def codes(self, codebook: Codebook, items: Items, at: np.ndarray) -> np.ndarray:
        """``[n, L]`` of items at positions ``[n]``."""
        return quantised(self._encode(codebook, items.at(at)), codebook["centroids"])[0].numpy()

    def last(self, codebook: Codebook, items: Items, at: np.ndarray) -> Tensor:
        """``[n, V]`` how far items at positions are from the values of the last level."""
        left = quantised(self._encode(codebook, items.at(at)), codebook["centroids"][:-1])[1]
        return distances(left, codebook["centroids"][-1])

    def _encode(self, codebook: Codebook, x: Tensor) -> Tensor:
        encoder = _layers([x.shape[1], *self.hidden, self.latent])
        encoder.load_state_dict(
            {name.removeprefix("encoder."): of for name, of in codebook.items() if "encoder." in name}
        )
        with torch.no_grad():
            return encoder(x)

    def _begin(self, latent: Tensor, items: Items) -> Tensor:
        """``[L, V, latent]`` by k-means of what each level gets."""
        keys = mix(np.arange(len(latent), dtype=np.uint64))
        left, found = latent, []
        for level in range(self.levels):
            level_items = Items(keys, lambda at, left=left: left[torch.from_numpy(at)], items.columns, items.seed)
            centroids, _ = k_means(level_items, level_items.at, self.size, 100 + level, 10)
            found.append(centroids)
            left = left - centroids[nearest(left, centroids)]
        return torch.stack(found)

    def _seed_anew(self, latent: Tensor, centroids: nn.Parameter, dead: Tensor, generator: torch.Generator) -> None:
        """Puts dead values where items are, level after level."""
        left = latent
        for level in range(self.levels):
            at = dead[level].nonzero()[:, 0]
            some = torch.randint(len(left), (len(at),), generator=generator)
            centroids.data[level, at] = left[some]
            left = left - centroids.data[level][nearest(left, centroids.data[level])]


def _layers(sizes: Sequence[int]) -> nn.Sequential:
    parts: list[nn.Module] = []
    for wide, narrow in itertools.pairwise(sizes):
        parts += [nn.Linear(wide, narrow), nn.ReLU()]
    return nn.Sequential(*parts[:-1])


def _straight_through(latent: Tensor, centroids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What stands for ``[n, latent]``, whose gradient is the encoder's; codes ``[n, L]``; and how far off each level is, summed."""
    codes, _ = quantised(latent.detach(), centroids.detach())
    left, off = latent, latent.new_zeros(())
    for level, of_level in enumerate(centroids):
        chosen = of_level[codes[:, level]]
        off = off + (chosen - left.detach()).square().sum() + COMMITMENT * (chosen.detach() - left).square().sum()
        left = left - chosen.detach()
    return latent + (latent - left - latent).detach(), codes, off
