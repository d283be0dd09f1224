"""Aspect gating: several views of one entity become one vector.

After the description of "An Unified Search and Recommendation Foundation Model for Cold-Start Scenario" (CIKM 2023);
the formulas are this project's reconstruction. What a gate's ``build(width, aspects)`` makes, for two aspects or more, maps

    aspects  [B, A, D] float32, anything finite where an aspect is missing
    present  [B, A] bool
    domains  [B, D] float32, the embedding of each row's domain
    counts   [B] float32, how often the entity's id was seen in training; 0 where it never was or has none

to ``(fused [B, D], weights [B, A])``, where ``fused`` is the weighted sum of the aspects. The weights of a row are a
softmax over its present aspects; a missing aspect has weight exactly 0, and a row without any has all weights and
``fused`` 0. They are called outside autocast: they are a rounding error of the cost, and a softmax deserves float32.
"""

from ...data.settings_base import Strict
from .cls_gate import ClsGate
from .domain_count_gate import DomainCountGate
from .domain_gate import DomainGate
from .mean import Mean
from .mean_gate import MeanGate
from .none import NoGate

GATES: dict[str, type[Strict]] = {
    "mean": Mean,
    "mean_gate": MeanGate,
    "cls_gate": ClsGate,
    "domain_gate": DomainGate,
    "domain_count_gate": DomainCountGate,
    "none": NoGate,
}
