"""The kinds that foundrank has: what a user's own are added to, by ``KINDS.with_(...)``."""

from ..data.config.kinds import Kinds
from ..data.features import FEATURES
from .heads import HEADS
from .optimizers import OPTIMIZERS, SCHEDULES
from .tasks import TASKS

KINDS = Kinds(features=FEATURES, heads=HEADS, optimizers=OPTIMIZERS, schedules=SCHEDULES, tasks=TASKS)
