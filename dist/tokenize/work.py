"""What an unfinished tokenize job has done, for all its ranks and for the next try: a codebook, and the codes of some blocks.

Each file begins with a checksum of the rest: one that was not written to its end is made again.
"""

import hashlib
import shutil
from pathlib import Path

import numpy as np
from safetensors.torch import load, save

from ...data.codes.code_store import WORK
from ...data.contents.store_shards import disk_errors
from ...data.storage import storage
from ...model.tokenizers.items import Codebook

_SUM = 32  # bytes


class Work:
    """The folder of one job, whose name says what it makes: another job's is of no use, and goes."""

    def __init__(self, folder: Path, made_of: str):
        """Args: of the store; and what tells this job from others."""
        self.folder = folder / WORK / hashlib.sha256(made_of.encode()).hexdigest()[:16]

    def begin(self) -> None:
        """Makes the folder, and removes those of other jobs."""
        with disk_errors(self.folder.parent.parent):
            for other in self.folder.parent.glob("*"):
                if other != self.folder:
                    shutil.rmtree(other, ignore_errors=True)
            self.folder.mkdir(parents=True, exist_ok=True)

    def end(self) -> None:
        """Removes it all."""
        shutil.rmtree(self.folder.parent, ignore_errors=True)

    @property
    def codebook(self) -> Codebook | None:
        """What was fitted; None: nothing was yet."""
        found = self._read("codebook")
        return None if found is None else load(found)

    def keep_codebook(self, codebook: Codebook) -> Codebook:
        """Keeps it, and gives it back."""
        self._write("codebook", save({name: value.contiguous() for name, value in codebook.items()}))
        return codebook

    def block(self, first: int, levels: int) -> np.ndarray | None:
        """``[n, levels]`` uint16, the codes of the block that begins at an item; None: it is not done."""
        found = self._read(f"block-{first:012d}")
        return None if found is None else np.frombuffer(found, "<u2").reshape(-1, levels)

    def keep_block(self, first: int, codes: np.ndarray) -> None:
        self._write(f"block-{first:012d}", codes.astype("<u2").tobytes())

    def _read(self, name: str) -> bytes | None:
        held = storage.read(self.folder / name)
        if held is None or hashlib.sha256(held[_SUM:]).digest() != held[:_SUM]:
            return None
        return held[_SUM:]

    def _write(self, name: str, content: bytes) -> None:
        with disk_errors(self.folder.parent.parent):
            storage.write(self.folder / name, hashlib.sha256(content).digest() + content)
