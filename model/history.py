"""The user's past items one by one, and the encoders of their sequence; where their mean will do, see `history_mean`.

An encoder of sequences maps a `Sequence` of B rows, and the vector of the item at hand ``[B, D]``, to ``[B, D]``. Those that can
learn to find the next item also have ``to_find``, as `next_item.Finds` describes it.
"""

from torch import nn

from ..data.layout import Layout, id_key
from ..data.settings import ModelConfig
from .history_din import Din
from .history_hstu import Hstu
from .history_transformer import Bert4Rec, SasRec
from .next_item import NextItem
from .past_items import PastItems


class History(nn.Module):
    """Past items one by one: their vectors, what encodes them, and what is learned from the order they came in.

    Attributes:
        items: gives their vectors, and those of candidates.
        encoder: of sequences.
        objective: None where the next item is not to be found.
    """

    def __init__(self, layout: Layout, config: ModelConfig, batch_size: int):
        super().__init__()
        self.items = PastItems(layout)
        self.encoder = _make_encoder(config, layout.past)
        self.objective: NextItem | None = None
        if config.next_item is not None:
            self.objective = NextItem(config.next_item, batch_size, config.width, layout.tables[id_key("item")])


def _make_encoder(config: ModelConfig, past: int) -> Din | Bert4Rec | Hstu | SasRec:
    chosen = config.history
    if chosen.encoder == "din":
        return Din(config.width)
    blocks = (config.width, past, chosen.layers, chosen.heads, chosen.dropout)
    if chosen.encoder == "bert4rec":
        return Bert4Rec(*blocks, config.next_item.mask_share if config.next_item else 0.0)
    return (Hstu if chosen.encoder == "hstu" else SasRec)(*blocks)
