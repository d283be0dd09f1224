"""A picture."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, model_validator

from ..settings_base import Positive
from .content import Embedded, Located, Missing
from .text_template import render_texts

OUTSIDE = "not in `folder`"
_AT_ONCE = 16  # files that are read, for an object store answers slowly
_ASKED = ("vectors", "encoder", "revision", "pooling", "normalize", "dimension", "reduction", "precision", "max_pixels")
_WHOLE = r"^(/|~|[A-Za-z][A-Za-z0-9+.-]*:/)"  # what begins a location that is not relative to anything


class Image(Embedded):
    """A picture: JPEG, PNG, WebP or GIF. One that is missing or damaged is a missing aspect, and counted."""

    plural: ClassVar[str] = "pictures"
    together: ClassVar[int] = 128

    kind: Literal["image"] = "image"
    image: str = Field(description='its file: template over catalog columns, e.g. "{path}" or "{brand}/{asin}.jpg"')
    folder: str = Field(
        default=".",
        description="what all pictures are in, relative to the experiment file, or a URI, e.g. s3://bucket/pictures",
    )
    vectors: Literal["vision", "random", "none"] = Field(
        default="vision",
        description="vision: the encoder's; random: a fixed random vector per distinct picture; none: no such aspect",
    )
    encoder: str | None = Field(
        default=None,
        description="a local folder or a hub id: a ViT, DINOv2, CLIP or SigLIP model, or another with an image processor",
    )
    revision: str | None = Field(default=None, description="hub id: its branch, tag or commit")
    pooling: Literal["pooler", "cls", "mean"] | None = Field(
        default=None,
        description="pooler: the model's own output, of a two-tower model its picture features; cls: the class token; "
        "mean: over all tokens; when absent the first of them that the model has",
    )
    normalize: bool = Field(default=True, description="normalise each vector to length 1")
    dimension: Positive | None = Field(default=None, description="width of the vectors, if less than the encoder's")
    reduction: Literal["truncate", "pca"] = Field(
        default="truncate", description="to `dimension`: truncate keeps the first values; pca fits the pictures"
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        default="auto", description="of the encoder; auto: bf16 on GPUs and on CPUs with bf16 instructions"
    )
    batch_size: Positive | None = Field(
        default=None, description="pictures per forward pass; 16 on CPUs and 128 on GPUs when absent"
    )
    max_pixels: int = Field(
        default=50_000_000,
        ge=1,
        le=178_000_000,
        description="larger pictures are left out before they are decoded; one of 50 million takes 200 MB",
    )
    trust_remote_code: bool = Field(
        default=False, description="run code from the encoder's repository; only if you trust it"
    )

    @model_validator(mode="after")
    def _has_encoder(self):
        if self.vectors == "vision" and not self.encoder:
            raise ValueError("name the `encoder` of its pictures, a hub id or a local folder, or set vectors: random")
        if self.folder.lower().startswith(("http:", "https:")):
            raise ValueError("`folder` is a web address: copy the pictures to a folder or an object store")
        return self

    def without_effect(self) -> dict[str, str]:
        settings = [name for name in _ASKED if name not in ("vectors", "max_pixels")]
        settings += ["batch_size", "trust_remote_code"]
        if self.vectors != "vision":
            kept = ("dimension",) if self.vectors == "random" else ()
            return {name: "vectors: vision" for name in settings if name not in kept}
        local = (self.encoder or "").startswith(("/", "./", "../", "~"))
        return {
            **({"reduction": "a dimension"} if self.dimension is None else {}),
            **({"revision": "an encoder from a hub"} if local else {}),
        }

    @property
    def template(self) -> str:
        return self.image

    @property
    def own_encoder(self) -> "Image":
        return self

    @property
    def suffix(self) -> str:
        """Of the folders with the vectors; those of other encoders lie beside the vision model's."""
        return "" if self.vectors == "vision" else f"-{self.vectors}"

    def asked(self) -> dict[str, Any]:
        """All that vectors depend on, as JSON values. Not where the pictures are: it is they that are compared."""
        names = ("vectors", "dimension", "max_pixels") if self.vectors == "random" else _ASKED
        return {"template": self.image} | {name: getattr(self, name) for name in names}

    def inputs(self, table: pa.Table) -> pa.Array:
        """Where the picture of each row is, large_string ``[N]``; null where its columns are."""
        named = render_texts(self.image, table, as_written=True)
        folder, slash = (pa.scalar(text, pa.large_string()) for text in (self.folder.rstrip("/"), "/"))
        joined = pc.binary_join_element_wise(folder, named, slash)
        return pc.if_else(pc.match_substring_regex(named, _WHOLE), named, joined)

    def digests(self, inputs: pa.Array, missing: Missing) -> list[bytes | None]:
        """Digests of the bytes of files; None for what cannot be had, which is noted."""
        # Pillow is loaded where there are pictures alone.
        from .pictures import BadPicture, check_header, digest_of, read_picture

        def digest(location: str) -> bytes | BadPicture:
            try:
                if not self._holds(location):
                    return BadPicture(OUTSIDE)
                content = read_picture(location)
                check_header(content, self.max_pixels)
                return digest_of(content)
            except BadPicture as error:
                return error

        rows = inputs.to_pylist()
        distinct = list(dict.fromkeys(location for location in rows if location is not None))
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            found = dict(zip(distinct, pool.map(digest, distinct), strict=True))
        digests: list[bytes | None] = []
        for location in rows:
            of_row = found.get(location)
            if isinstance(of_row, BadPicture):
                missing.note(str(of_row), location)
            digests.append(of_row if isinstance(of_row, bytes) else None)
        return digests

    def taken(self, inputs: Sequence[str], digests: np.ndarray) -> list[Located]:
        return [Located(location, digest.tobytes()) for location, digest in zip(inputs, digests, strict=True)]

    def _holds(self, location: str) -> bool:
        """Whether a location is in `folder`. A catalog may be somebody else's; it does not say what is read of this machine."""
        return location.startswith(f"{self.folder.rstrip('/')}/") and ".." not in location.split("/")
