"""Losses of whole result lists, one a file: they see how the rows of a list stand to one another, not each alone.

They are summed beside the loss of each label; ``list_losses`` does that for all tasks together.
"""

from ...data.settings_base import Strict
from .jrc import JRC
from .pairwise import Pairwise
from .softmax import Softmax

LIST_LOSSES: dict[str, type[Strict]] = {"jrc": JRC, "pairwise": Pairwise, "softmax": Softmax}
