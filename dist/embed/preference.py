"""A preference in words: whose place in the prefix it takes, and its vector."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...data.config.experiment import Experiment
from ...data.config.sections.entities import Stored
from ...data.config.sections.prefix import OWNERS
from ...data.content_kinds.content import Embedded
from ...data.content_kinds.text import Text
from ...data.content_kinds.vector import Vector
from ...data.contents.content_store import PCA, read_manifest, store_folder
from ...data.contents.store_shards import as_halves
from ...data.errors import UserError
from ...data.schema.layout import content_key
from ...data.storage.file_systems import Location
from ...model.contents import ENCODERS
from ...model.contents.content_encoder import ContentEncoder
from .reduction import reduction

_OPTION = "--preference"
Projection = Callable[[np.ndarray], np.ndarray]


def check_preference(preference: str, run: Location, experiment: Experiment) -> str:
    """The content of the user that a preference in words is, of those that are places of the prefix.

    Raises:
        UserError: there is none that a text can be, or several, or no text encoder; or it is empty.
    """
    contents = experiment.entities.user.every_content()
    named = [name for name in experiment.model.prefix if name not in OWNERS]
    fit = [name for name in named if isinstance(contents[name], (Text, Vector))]
    if len(fit) != 1:
        what = "has no content of the user in model.history.prefix that a text could be"
        what = f"has several such contents in model.history.prefix: {', '.join(fit)}" if fit else what
        remedy = "Give each in its column." if fit else "Leave it out, or train with a content of the user there."
        raise UserError(_OPTION, f"means nothing for {run}, which {what}", remedy)
    if experiment.text.vectors == "none":
        raise UserError(_OPTION, f"is a text, and {run} has none embedded (text.vectors: none)", "Leave it out.")
    if isinstance(contents[fit[0]], Vector) and experiment.text.dimension and experiment.text.reduction == "pca":
        what = (
            f"would be reduced by components that were fitted on other texts than `{fit[0]}`, which is given as vectors"
        )
        raise UserError(_OPTION, what, "Give its vectors in their column.")
    if not preference.strip():
        raise UserError(_OPTION, "is empty", "Say what these users prefer, or leave it out.")
    return fit[0]


class PreferenceEncoder:
    """The vectors of preferences in words, by the run's text encoder, which is loaded when the first one is asked for."""

    def __init__(self, run: Location, experiment: Experiment):
        """Args: the run, and its experiment."""
        self._run, self._experiment = run, experiment
        self._encoders: dict[str, tuple[ContentEncoder, dict[str, Any], Projection]] = {}

    def vector(self, preference: str) -> tuple[str, NDArray[np.float32]]:
        """Name in ``Batch.vectors`` of what a preference is, and its vector ``[D]``: that of the text as it is, without the content's template.

        Raises:
            UserError: as of `check_preference`; the encoder's files are not there, or its vectors are of another width than the run's.
        """
        name = check_preference(preference, self._run, self._experiment)
        (vector,) = self.vectors(name, [preference])
        return content_key("user", name), vector

    def vectors(self, name: str, texts: Sequence[str]) -> NDArray[np.float32]:
        """``[N, D]``: what N texts are as a content of the user, as that content's store would have them.

        Raises:
            UserError: as of `vector`.
        """
        content = self._experiment.entities.user.every_content()[name]
        if name not in self._encoders:
            self._encoders[name] = self._encoder(name)
        encoder, made, project = self._encoders[name]
        vectors = project(encoder.encode(list(texts), made.get("prompt", "")).vectors).astype(np.float32)
        if not isinstance(content, Vector):
            return as_halves(vectors, _OPTION).astype(np.float32)
        if content.size != vectors.shape[1]:
            what = f"becomes a vector of {vectors.shape[1]}, and `{name}` of {self._run} has {content.size}: another encoder made it"
            raise UserError(_OPTION, what, "Give its vectors in their column.")
        return vectors

    def _encoder(self, name: str) -> tuple[ContentEncoder, dict[str, Any], Projection]:
        """The encoder of a content of the user, what that content's vectors were made with, and what makes vectors of their width."""
        settings, made, folder = self._experiment.text, dict[str, Any](), Path()
        if isinstance(self._experiment.entities.user.every_content()[name], Embedded):
            folder = store_folder(self._experiment, Stored("user", name))
            made = (read_manifest(folder) or {}).get("made_with", {})
        elif settings.dimension is not None and settings.vectors == "llm":
            made = {"reduction": settings.reduction, "dimension": settings.dimension}
        encoder = ENCODERS[settings.vectors](settings, made.get("precision"))
        size = made.get("dimension", encoder.size)
        return encoder, made, reduction(made.get("reduction"), size, folder / PCA, made.get("normalize", True))
