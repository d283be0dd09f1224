"""Loading an image encoder: from a local folder or the hub."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from PIL import Image as Pil

from ...data.content_kinds.image import Image
from ...data.errors import UserError, one_line
from ..layers.precision import chosen_precision
from .image_encoder import ImageEncoder
from .pretrained import Source, folder_or_id, loading

_BATCH = {"cpu": 16, "cuda": 128}


def load_image_encoder(config: Image, precision: str | None = None) -> ImageEncoder:
    """Loads the vision model that a content names, onto the GPU if there is one.

    Pictures are brought to size by the model's own image processor, as transformers does it with PIL and numpy.

    Args:
        config: the content.
        precision: in place of the content's; of a store that is being continued.

    Raises:
        UserError: the folder is missing, the hub cannot be reached or does not know the id, the repository wants to run its own
            code, weights are missing, or the model does not give one vector per picture.
    """
    assert config.encoder is not None
    where = f"image encoder {config.encoder}"
    source = Source(folder_or_id(config.encoder, where), where, "image", config.revision, config.trust_remote_code)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    precision = precision or chosen_precision(config.precision, device)
    processor, model = _load(source, torch.bfloat16 if precision == "bf16" else torch.float32)
    encoder = ImageEncoder(
        processor=processor,
        model=model.to(device).eval().requires_grad_(False),
        pooling=config.pooling or "",
        normalize=config.normalize,
        batch_size=config.batch_size or _BATCH[device.type],
        max_pixels=config.max_pixels,
        precision=precision,
        device=device,
        size=0,
        revision=getattr(model.config, "_commit_hash", None),
    )
    return _tried(encoder, where)


def _load(source: Source, dtype: torch.dtype) -> tuple[Any, Any]:
    """Image processor and model; a pooler that its files have no weights for is taken out, as it would be random."""
    # Importing transformers takes seconds, which commands that embed nothing need not pay.
    from transformers import AutoImageProcessor, AutoModel

    with loading(source, "its image processor"):
        processor = AutoImageProcessor.from_pretrained(source.name, backend="pil", **source.options)
        model, told = AutoModel.from_pretrained(source.name, dtype=dtype, output_loading_info=True, **source.options)
    missing = sorted(told["missing_keys"])
    if lost := [name for name in missing if not name.startswith("pooler.")]:
        raise UserError(source.where, f"its files lack {len(lost)} weights ({lost[0]}, ...)", "Get the encoder anew.")
    if missing:  # those of a classifier
        model.pooler = None
    return processor, model


def _tried(encoder: ImageEncoder, where: str) -> ImageEncoder:
    """The encoder with its pooling, where nobody chose one, and its width, found out on two small pictures.

    Raises:
        UserError: it has no such pooling, does not take pictures of all sizes, or does not give one finite vector for each, the
            same each time.
    """
    pictures = [Pil.linear_gradient("L").convert("RGB").resize(size) for size in ((64, 40), (30, 50))]
    try:
        pixels = np.stack([encoder.pixels(picture) for picture in pictures])
        with torch.inference_mode():
            found = _poolings(encoder, pixels)
            chosen = replace(encoder, pooling=encoder.pooling or found[0])
            once, again = (chosen.forward(pixels).cpu() for _ in range(2)) if chosen.pooling in found else (None, None)
    except Exception as error:  # of thousands of architectures, and of processors that do something else
        what = (
            f"it is no encoder that makes one vector of each picture ({type(error).__name__}: {one_line(error)[:200]})"
        )
        raise UserError(where, what, "Name a vision encoder, such as a ViT, DINOv2, CLIP or SigLIP model.") from error
    if once is None or again is None:
        raise UserError(
            f"{where}: pooling",
            f"is {encoder.pooling}, which it has not",
            f"Use {' or '.join(found)}, or leave it out.",
        )
    if once.shape[:-1] != (2,) or not torch.allclose(once, again, atol=1e-3) or not once.isfinite().all():
        raise UserError(
            where, "does not give the same finite vector each time it sees a picture", "Name another encoder."
        )
    return replace(chosen, size=once.shape[1])


def _poolings(encoder: ImageEncoder, pixels: np.ndarray) -> list[str]:
    """The ways in which its output can become a vector, the best known one first."""
    has_pooler = getattr(encoder.output(pixels), "pooler_output", None) is not None
    has_cls = any(name.endswith(("cls_token", "class_embedding")) for name, _ in encoder.model.named_parameters())
    return [*(["pooler"] if has_pooler else []), *(["cls"] if has_cls else []), "mean"]
