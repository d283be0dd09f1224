"""A text."""

from typing import Any, Literal

from pydantic import Field

from .content import Embedded


class Text(Embedded):
    """A text, embedded by the encoder that the experiment's `text` section names."""

    kind: Literal["text"] = Field(default="text", description="may be left out: `text` tells it")
    text: str = Field(description='template over catalog columns, e.g. "{brand} {title}"')
    prompt: str | None = Field(default=None, description="put before each text; the encoder's own default when absent")

    @property
    def template(self) -> str:
        return self.text

    def asked(self) -> dict[str, Any]:
        return {"template": self.text, "prompt": self.prompt}
