"""Frozen encoders of contents: what turns texts into vectors, once."""

from collections.abc import Callable

from ...data.config.sections.text import TextConfig
from .content_encoder import ContentEncoder
from .random_vectors import RandomVectors
from .text_encoder_loading import load_text_encoder

ENCODERS: dict[str, Callable[[TextConfig, str | None], ContentEncoder]] = {
    "llm": load_text_encoder,
    "random": RandomVectors.load,
}
"""``text.vectors`` -> loads its encoder: of the experiment's ``text``, in a precision that goes before the experiment's."""
