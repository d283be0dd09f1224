"""The frozen vision model that turns pictures into vectors: a vision transformer (Dosovitskiy et al., 2021), a convolutional
network, or the picture side of a two-tower model such as CLIP (Radford et al., 2021)."""

import hashlib
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...data.content_kinds.content import Located
from ...data.content_kinds.pictures import BadPicture, decode, read_again
from ...data.errors import UserError
from ...data.machine.limits import cpus
from .content_encoder import Encoded
from .weights_checksum import add_weights

_MOST_READERS = 16  # threads that decode for a GPU


@dataclass(frozen=True)
class ImageEncoder:
    """A loaded vision model and how its output becomes one vector per picture. Several threads may use one.

    Attributes:
        processor: a transformers image processor of the PIL kind, which makes every picture the same size.
        model: a transformers model, in evaluation mode on ``device``.
        pooling: ``pooler``, the model's own output; for a two-tower model, its picture features; ``cls`` or ``mean`` (over tokens
            or places).
        normalize: whether vectors have length 1.
        batch_size: pictures per forward pass.
        max_pixels: of a picture; larger ones are not decoded.
        precision: ``fp32`` or ``bf16``.
        device: where the model runs.
        size: D, the width of a vector.
        revision: commit of the hub repository it was loaded from; None for a folder.
    """

    processor: Callable[..., Any]
    model: nn.Module
    pooling: str
    normalize: bool
    batch_size: int
    max_pixels: int
    precision: str
    device: torch.device
    size: int
    revision: str | None = None

    @cached_property
    def weights_checksum(self) -> str:
        """SHA-256 over the names and values of all weights, and over how pictures are brought to size."""
        digest = hashlib.sha256(json.dumps(self.processor.to_dict(), sort_keys=True, default=str).encode())  # type: ignore[attr-defined]
        add_weights(digest, self.model.state_dict())
        return digest.hexdigest()

    def encode(self, inputs: list[Located], prompt: str = "") -> Encoded:
        """The vectors of some pictures.

        A vector does not depend on which pictures it was encoded with, up to rounding; the same list gives the same bits, as one that is
        damaged keeps its place in its batch.

        Args:
            inputs: N pictures.
            prompt: has no part in it.

        Returns:
            ``[N, D]`` float32, zeros for a picture that is damaged; and which those are.

        Raises:
            UserError: a file has changed since it was looked at, or cannot be read or decoded on this machine now.
        """
        vectors, bad = np.zeros((len(inputs), self.size), np.float32), {}
        # On a CPU it is the batches that are worked on side by side.
        with (
            ThreadPoolExecutor(1 if self.device.type == "cpu" else min(_MOST_READERS, cpus())) as pool,
            torch.inference_mode(),
        ):
            for start in range(0, len(inputs), self.batch_size):
                pixels: list[np.ndarray | None] = []
                for row, found in enumerate(pool.map(self._pixels, inputs[start : start + self.batch_size]), start):
                    if isinstance(found, BadPicture):
                        bad[row] = str(found)
                    pixels.append(None if isinstance(found, BadPicture) else found)
                shape = next((of_one.shape for of_one in pixels if of_one is not None), None)
                if shape is not None:
                    batch = np.stack([np.zeros(shape, np.float32) if of_one is None else of_one for of_one in pixels])
                    vectors[start : start + len(batch)] = self.forward(batch).cpu().numpy()
        vectors[list(bad)] = 0
        return Encoded(vectors, bad=bad)

    def _pixels(self, picture: Located) -> np.ndarray | BadPicture:
        try:
            return self.pixels(decode(read_again(picture), self.max_pixels))
        except BadPicture as error:
            return error
        except MemoryError as error:
            raise UserError(
                picture.location,
                "takes more memory to decode than there is",
                "Run the command again with more memory, fewer ranks or a smaller max_pixels.",
            ) from error

    def pixels(self, image: Any) -> np.ndarray:
        """A picture of PIL as the model takes it, float32 ``[3, height, width]``."""
        return np.asarray(self.processor(images=image, return_tensors="np")["pixel_values"][0], np.float32)

    def output(self, pixels: np.ndarray) -> Any:
        """What the model, or the picture side of a two-tower one, makes of ``[n, 3, height, width]`` float32."""
        batch = torch.from_numpy(pixels).to(self.device, self.model.dtype)  # type: ignore[arg-type]
        return getattr(self.model, "get_image_features", self.model)(pixel_values=batch)

    def forward(self, pixels: np.ndarray) -> Tensor:
        """``[n, D]`` float32 on the device, of ``[n, 3, height, width]`` float32."""
        output = self.output(pixels)
        if self.pooling == "pooler":
            pooled = output.pooler_output.float().flatten(1)
        else:
            states = output.last_hidden_state.float()
            places = states.flatten(2).transpose(1, 2) if states.ndim == 4 else states  # [n, tokens, D]
            pooled = places[:, 0] if self.pooling == "cls" else places.mean(1)
        return nn.functional.normalize(pooled, dim=-1) if self.normalize else pooled

    def prompt(self, entity: str) -> str:
        """None: pictures have none."""
        return ""

    def made_with(self, prompt: str) -> dict[str, Any]:
        """All that a vector depends on besides its picture."""
        return {
            "weights_sha256": self.weights_checksum,
            "precision": self.precision,
            "pooling": self.pooling,
            "normalize": self.normalize,
        }
