"""The kinds that foundrank has: what a user's own are added to, by ``KINDS.with_(...)``."""

from ..data.config.kinds import Kinds
from ..data.content_kinds import CONTENTS
from ..data.features import FEATURES
from .alignments import ALIGNMENTS
from .codes import DECODERS
from .gates import GATES
from .heads import HEADS
from .history import HISTORIES
from .losses import LIST_LOSSES
from .optimizers import OPTIMIZERS, SCHEDULES
from .tasks import TASKS
from .tokenizers import TOKENIZERS

KINDS = Kinds(
    alignments=ALIGNMENTS,
    contents=CONTENTS,
    decoders=DECODERS,
    features=FEATURES,
    gates=GATES,
    heads=HEADS,
    histories=HISTORIES,
    list_losses=LIST_LOSSES,
    optimizers=OPTIMIZERS,
    schedules=SCHEDULES,
    tasks=TASKS,
    tokenizers=TOKENIZERS,
)
