"""What loading a transformers model from a folder or the hub has in common, whatever it encodes."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...data.errors import UserError
from ...data.storage.storage import with_home


@dataclass(frozen=True)
class Source:
    """Where a model is loaded from.

    Attributes:
        name: folder or hub id.
        where: the experiment names it, for errors.
        section: of its settings, ``text`` or ``image``, for errors.
        revision: of a hub id; None: the newest.
        trust_remote_code: whether code of its repository may run.
    """

    name: str
    where: str
    section: str
    revision: str | None
    trust_remote_code: bool

    @property
    def local(self) -> bool:
        """Whether it is a folder."""
        return Path(self.name).is_dir()

    @property
    def options(self) -> dict[str, Any]:
        """For ``from_pretrained``."""
        return {
            "trust_remote_code": self.trust_remote_code,
            "local_files_only": self.local,
            "revision": None if self.local else self.revision,
        }


def folder_or_id(encoder: str, where: str) -> str:
    """Folder or hub id to load from; ``where`` the experiment names it, for errors.

    Raises:
        UserError: the folder is missing.
    """
    path = with_home(encoder)
    if path.is_dir():
        return str(path)
    if path.is_absolute() or encoder.startswith(("./", "../", "~")):
        raise UserError(where, "no such folder", "Correct the path, or write a hub id.")
    return encoder


@contextmanager
def loading(source: Source, brings: str, otherwise: str = "") -> Iterator[None]:
    """Loads in silence, and tells what goes wrong in one way.

    Args:
        source: what is loaded.
        brings: what a folder must hold beside a model, e.g. ``its tokenizer``.
        otherwise: what else could be named, for who cannot reach the hub.

    Raises:
        UserError: the hub cannot be reached or does not know the id, the repository wants to run its own code, a package is
            missing, or there is no such model.
    """
    # Importing transformers takes seconds, which commands that embed nothing need not pay.
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # the loaders raise whatever the repository's files and the network lead to
        what, remedy = _explain(error, source, brings, otherwise)
        raise UserError(source.where, what, remedy) from error
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def _explain(error: Exception, source: Source, brings: str, otherwise: str) -> tuple[str, str]:
    message = " ".join(str(error).split())[:300]
    if "trust_remote_code" in message:
        return (
            "its repository brings code that must run to load it",
            f"If you trust that code, set {source.section}.trust_remote_code: true.",
        )
    if isinstance(error, ImportError):
        return f"it needs a package that is not installed ({message})", "Install that package."
    if source.local:
        return (
            f"the folder holds no model that transformers can load ({type(error).__name__}: {message})",
            f"Save a model and {brings} there with save_pretrained.",
        )
    return (
        f"it cannot be fetched from the hub ({type(error).__name__}: {message})",
        f"Check the id and the connection (a private model needs HF_TOKEN), or name a local folder{otherwise}.",
    )
