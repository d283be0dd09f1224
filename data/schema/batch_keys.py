"""What the keys and columns of a batch are called, and the owners that are no entities."""

from ..config.sections.entities import TEXT

HISTORY = "history"
CONTEXT = "context"
BIAS = "bias"
RATES = "rates"
SIMILARITY = "similarity"
ATTENTION_TABLE = "attention_item"


def id_key(entity: str) -> str:
    """Name of an entity's id, as key of the batch and as embedding table."""
    return f"id_{entity}"


def past_key(back: int) -> str:
    """Key of the past item that is ``back`` places before the newest."""
    return f"past_{back}"


def candidate_key(place: int) -> str:
    """Key of items that belong to no row: candidates for the next one, as many per key as a batch has bags."""
    return f"candidate_{place}"


def past_feature_key(feature: str, key: str) -> str:
    """Key of a feature, by its own key, of the items that ``key`` holds: past ones or candidates."""
    return f"{key}_{feature}"


def attention_key(back: int | None) -> str:
    """Key of the past item that is ``back`` places before the newest, in the table for attention; None: the row's own item."""
    return "attention_own" if back is None else f"attention_{back}"


def content_key(owner: str, content: str) -> str:
    """Name of the vectors of a content of an entity or of the history, in ``Batch.vectors``."""
    return f"text_{owner}" if content == TEXT else f"content_{content}_{owner}"
