"""Narrower text vectors: the first values of a Matryoshka-trained encoder, or principal components of the texts."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file, save

from ...data.contents.catalog_inputs import CatalogInputs
from ...data.contents.store_shards import disk_errors
from ...data.errors import UserError
from ...data.storage.storage import write
from ...model.contents.content_encoder import ContentEncoder, Encoded
from ..ranks.runtime import threads_kept

SAMPLE = 20_000  # texts that PCA is fitted on
_CHUNK = 1024


def reduction(kind: str | None, dimension: int, pca: Path, normalize: bool) -> Callable[[np.ndarray], np.ndarray]:
    """A function from ``[N, E]`` float32 vectors of the encoder to ``[N, D]`` ones of the store.

    Args:
        kind: ``truncate`` (Kusupati et al., Matryoshka Representation Learning, 2022), ``pca``, or None for neither.
        dimension: D.
        pca: file that `fit_pca` wrote.
        normalize: whether vectors have length 1, before and after.
    """
    if kind is None:
        return lambda vectors: vectors

    def unit(vectors: np.ndarray) -> np.ndarray:
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors / np.maximum(lengths, 1e-12) if normalize else vectors

    if kind == "truncate":
        return lambda vectors: unit(vectors[:, :dimension])
    fitted = load_file(pca)
    return lambda vectors: unit((vectors - fitted["mean"]) @ fitted["directions"])


def fit_pca(
    path: Path,
    encoder: ContentEncoder,
    prompt: str,
    inputs: CatalogInputs,
    sample: tuple[np.ndarray, np.ndarray],
    dimension: int,
) -> None:
    """Fits principal components on some texts of a catalog, and writes them.

    Args:
        path: file to write: ``mean [E]`` and ``directions [E, D]``, float32.
        encoder: gives the vectors.
        prompt: put before each text.
        inputs: the content.
        sample: ascending catalog rows ``[M]`` of distinct texts, and their digests.
        dimension: D.

    Raises:
        UserError: there are fewer texts than dimensions.
    """
    positions, digests = sample
    _check_enough(len(positions), dimension, inputs)
    texts = inputs.content.taken(list(inputs.read(positions)), digests)
    with threads_kept():
        torch.set_num_threads(1)  # the same bits on any number of cores
        parts = [_usable(encoder.encode(texts[at : at + _CHUNK], prompt)) for at in range(0, len(texts), _CHUNK)]
        vectors = torch.from_numpy(np.concatenate(parts)).double()
        _check_enough(len(vectors), dimension, inputs)
        mean = vectors.mean(0)
        _, directions = torch.linalg.eigh((vectors - mean).T @ (vectors - mean))
    kept = directions.flip(1)[:, :dimension]
    fitted = {"mean": mean.float().numpy(), "directions": np.ascontiguousarray(kept.float().numpy())}
    with disk_errors(path.parent):
        write(path, save(fitted))


def _check_enough(found: int, dimension: int, inputs: CatalogInputs) -> None:
    if found < dimension:
        raise UserError(
            f"{inputs.settings_at}.dimension: {dimension}",
            f"{inputs.place} has {found} distinct {inputs.content.plural}, too few to fit that many components",
            f"Set a smaller one, or {inputs.settings_at}.reduction: truncate.",
        )


def _usable(encoded: Encoded) -> np.ndarray:
    return np.delete(encoded.vectors, list(encoded.bad), axis=0)
