"""Codes of items in a model: as an aspect, and as what the next item is found by; its decoders, one file each."""

from ...data.settings_base import Strict
from .autoregressive import Autoregressive
from .parallel import Parallel

DECODERS: dict[str, type[Strict]] = {"autoregressive": Autoregressive, "parallel": Parallel}
"""Name, as in ``model.next_item.decoder.kind`` -> the decoder."""
