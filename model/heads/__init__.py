"""Multi-task heads: MMoE, PLE, STAR and a shared bottom, with their experts and towers.

Each maps ``(z [B, I], domain_lengths)`` to logits ``[B, T]`` float32, rows grouped by domain. What exists once per domain starts
equal in all of them. What `build` takes:

    inputs       the axis of z, I its size
    domains      the axis of the domains
    tasks        the axis of the T tasks, the union of the domains'; a task with several outputs has a place for each
    learned      columns of z that depend on parameters; experts make no gradients of the others
"""

from ...data.settings_base import Strict
from .mmoe import MMoE
from .ple import PLE
from .shared_bottom import SharedBottom
from .star import STAR

HEADS: dict[str, type[Strict]] = {"mmoe": MMoE, "shared_bottom": SharedBottom, "ple": PLE, "star": STAR}
