"""Codes of items in a model: as an aspect, and as what the next item is found by; its decoders, one file each."""

from ...data.settings_base import Strict
from .any_order import AnyOrder
from .autoregressive import Autoregressive
from .parallel import Parallel

DECODERS: dict[str, type[Strict]] = {"any_order": AnyOrder, "autoregressive": Autoregressive, "parallel": Parallel}
"""Name, as in ``model.next_item.decoder.kind`` -> the decoder."""
