"""The kinds of contents an entity may have: one file each, a class whose fields are that kind's settings."""

from .codes import Codes
from .content import Content
from .image import Image
from .text import Text
from .vector import Vector

CONTENTS: dict[str, type[Content]] = {
    "codes": Codes,
    "image": Image,
    "text": Text,
    "vector": Vector,
}
"""Name, as in ``{NAME: ...}`` -> the kind."""
