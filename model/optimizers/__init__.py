"""Optimizers of the dense part, and schedules of the learning rates."""

from ...data.settings_base import Strict
from .adam import Adam
from .adamw import AdamW
from .schedules import Constant, Cosine, Linear
from .sgd import SGD

OPTIMIZERS: dict[str, type[Strict]] = {"adamw": AdamW, "adam": Adam, "sgd": SGD}
SCHEDULES: dict[str, type[Strict]] = {"cosine": Cosine, "linear": Linear, "constant": Constant}
