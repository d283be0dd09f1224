"""The language model that embeds texts."""

from typing import Any, Literal

from pydantic import Field

from ...settings_base import Positive, Strict

# What vectors depend on. Random ones know no encoder.
_ASKED = ("vectors", "encoder", "revision", "max_length", "pooling", "normalize", "dimension", "reduction", "precision")


class TextConfig(Strict):
    """The frozen language model that embeds texts. What is absent is taken from the encoder's own files."""

    vectors: Literal["llm", "random", "none"] = Field(
        default="llm",
        description="llm: the encoder's; random: a fixed random vector per distinct text; none: no text aspect",
    )
    encoder: str = Field(default="minilm", description="minilm (shipped, offline), a hub id, or a local folder")
    revision: str | None = Field(default=None, description="hub id: its branch, tag or commit")
    store: str = Field(default="text_store", description="folder of the content store, relative to the experiment file")
    max_length: Positive | None = Field(
        default=None,
        description="tokens per text, longer ones are truncated; the encoder's own limit, at most 512, when absent",
    )
    pooling: Literal["mean", "cls", "last"] | None = Field(
        default=None,
        description="how token vectors become one; when neither given nor in the encoder's files: last for decoders, else mean",
    )
    normalize: bool | None = Field(
        default=None, description="normalise each vector to length 1; true unless the encoder's files say otherwise"
    )
    dimension: Positive | None = Field(default=None, description="width of the vectors, if less than the encoder's")
    reduction: Literal["truncate", "pca"] = Field(
        default="truncate",
        description="to `dimension`: truncate keeps the first values (for Matryoshka-trained encoders); pca fits the texts",
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        default="auto", description="of the encoder; auto: bf16 on GPUs and on CPUs with bf16 instructions"
    )
    batch_tokens: Positive | None = Field(
        default=None,
        description="tokens per forward pass, padding included; 1024 on CPUs and 32768 on GPUs when absent",
    )
    trust_remote_code: bool = Field(
        default=False, description="run code from the encoder's repository; only if you trust it"
    )

    @property
    def suffix(self) -> str:
        """Of the folders with the vectors; those of other encoders lie beside the language model's."""
        return "" if self.vectors == "llm" else f"-{self.vectors}"

    def asked(self) -> dict[str, Any]:
        """All that vectors depend on, as JSON values."""
        names = ("vectors", "dimension") if self.vectors == "random" else _ASKED
        return {name: getattr(self, name) for name in names}

    def without_effect(self) -> dict[str, str]:
        # A location describes data. And it is not taken for another one only because it was left out.
        settings = [name for name in type(self).model_fields if name not in ("vectors", "store")]
        if self.vectors == "none":
            return dict.fromkeys(settings, "vectors: llm")
        if self.vectors == "random":
            return dict.fromkeys((name for name in settings if name != "dimension"), "vectors: llm")
        local = self.encoder == "minilm" or self.encoder.startswith(("/", "./", "../", "~"))
        return {
            **({"reduction": "a dimension"} if self.dimension is None else {}),
            **({"revision": "an encoder from a hub"} if local else {}),
            **({"trust_remote_code": "another encoder"} if self.encoder == "minilm" and self.trust_remote_code else {}),
        }
