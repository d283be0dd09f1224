"""Settings of causal encoders of sequences: what stands before the past. Apart from what reads them, which needs TorchRec."""

from typing import Annotated

from pydantic import Field

from ...data.settings_base import Name, Share

Prefixed = Annotated[
    tuple[Name, ...],
    Field(
        description="places before the oldest past item, which all may attend to: user (its features and contents), query, context (features of the event), or a content of the user by its name, such as a text of what it prefers"
    ),
]
PrefixDropout = Annotated[
    Share,
    Field(
        description="share of training rows in which a place of the prefix is left out, so that the model learns to do without"
    ),
]


def prefix_without_effect(prefix: tuple[str, ...]) -> dict[str, str]:
    """What has no effect in the settings of an encoder."""
    return {} if prefix else {"prefix_dropout": "prefix"}
