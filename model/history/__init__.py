"""The user's past items as a sequence: its encoders, and the next-item objective.

What an encoder's ``build`` makes maps a `Sequence` of B rows, and the vector of the item at hand ``[B, D]``, to ``[B, D]``. Those
that can learn to find the next item say ``finds_next``, and their module also has ``to_find``, as `next_item.Finds` describes it.
An encoder may have the settings ``features``, ``time_bias`` and ``decoupled``, which also say what a batch holds. ``build`` takes:

    width        D
    past         most items that a row has
    mask_share   of past items that are hidden in training, where the objective says so
"""

from ...data.settings_base import Strict
from ..representation.mean_history import Mean
from .bert4rec import BERT4Rec
from .din import DIN
from .hstu import HSTU
from .sasrec import SASRec

HISTORIES: dict[str, type[Strict]] = {"mean": Mean, "din": DIN, "sasrec": SASRec, "bert4rec": BERT4Rec, "hstu": HSTU}
