"""The kinds of features: one file each, a class whose fields are that kind's settings and whose methods are all that is done with it."""

from .bucketed import Bucketed
from .categorical import Categorical
from .dense import Dense
from .feature import Feature
from .id_list import IdList
from .vector import Vector
from .weighted_list import WeightedList

FEATURES: dict[str, type[Feature]] = {
    "categorical": Categorical,
    "list": IdList,
    "weighted_list": WeightedList,
    "dense": Dense,
    "bucketed": Bucketed,
    "vector": Vector,
}
"""Name, as in ``kind: NAME`` -> the kind."""
