"""Frozen encoders of contents: what turns texts and pictures into vectors, once."""

from collections.abc import Callable
from typing import Any

from .content_encoder import ContentEncoder
from .image_encoder_loading import load_image_encoder
from .random_vectors import RandomVectors
from .text_encoder_loading import load_text_encoder

ENCODERS: dict[str, Callable[[Any, str | None], ContentEncoder]] = {
    "llm": load_text_encoder,
    "random": RandomVectors.load,
    "vision": load_image_encoder,
}
"""``vectors`` of an encoder's settings -> loads it, in a precision that goes before the one they ask for."""
