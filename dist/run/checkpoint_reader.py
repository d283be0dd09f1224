"""Reading the tensors of a checkpoint, whoever wrote it: what it says is checked, and none of it is run.

torch.distributed.checkpoint keeps a checkpoint's table of contents, ``.metadata``, as a pickle, which can name any function to
be called. Here it can name those classes alone that such a table is made of.
"""

import math
import pickle
import re
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.distributed.checkpoint import state_dict_loader
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
from torch.distributed.checkpoint.filesystem import FileSystemReader, _StorageInfo
from torch.distributed.checkpoint.metadata import (
    _MEM_FORMAT_ENCODING,
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    StorageMeta,
    TensorStorageMetadata,
)
from torch.distributed.checkpoint.planner import LoadPlan, LoadPlanner
from torch.distributed.checkpoint.planner_helpers import create_read_items_for_chunk_list

from ...data.errors import UserError
from .finite import not_finite, own_not_finite

_REMEDY = "Restore it, or remove the checkpoint's folder to use an earlier one."
_OF_CHECKPOINTS = "torch.distributed.checkpoint"
_NAMES = {
    (f"{_OF_CHECKPOINTS}.metadata", "Metadata"),
    (f"{_OF_CHECKPOINTS}.metadata", "MetadataIndex"),
    (f"{_OF_CHECKPOINTS}.metadata", "StorageMeta"),
    # Not BytesStorageMetadata: what it stands for is a pickle of its own, and foundrank writes none.
    (f"{_OF_CHECKPOINTS}.metadata", "TensorStorageMetadata"),
    (f"{_OF_CHECKPOINTS}.metadata", "ChunkStorageMetadata"),
    (f"{_OF_CHECKPOINTS}.metadata", "TensorProperties"),
    (f"{_OF_CHECKPOINTS}.metadata", "_MEM_FORMAT_ENCODING"),
    (f"{_OF_CHECKPOINTS}.filesystem", "_StorageInfo"),
    ("torch.serialization", "_get_layout"),
    ("torch", "Size"),
    ("pathlib", "PosixPath"),
    ("pathlib._local", "PosixPath"),
}
_PIECE = re.compile(r"__\d+_\d+\.distcp")


def saved_tensors(folder: Path) -> dict[str, TensorStorageMetadata]:
    """Name -> size, type and pieces of each tensor of a checkpoint.

    Raises:
        UserError: its table of contents is damaged, or names something else than tensors in files of this folder.
    """
    return _Reader(folder).read_metadata().state_dict_metadata  # type: ignore[return-value]


def read_tensors(
    folder: Path, tensors: dict[str, Any], planner: LoadPlanner | None = None, alone: bool = False
) -> None:
    """Reads a checkpoint into tensors, in whatever dicts they are. A collective, unless a rank reads ``alone``.

    Raises:
        UserError: as `saved_tensors`, it has not these tensors, or it has values that are NaN or infinite, with which no
            model can predict.
    """
    try:
        state_dict_loader.load(tensors, storage_reader=_Reader(folder), planner=planner, no_dist=alone)
    except CheckpointException as failed:
        errors = [error for error, _ in failed.failures.values()]
        # It holds what a signal raises, too: a job that is asked to stop while it reads is no damaged checkpoint.
        error = next((error for error in errors if not isinstance(error, Exception)), errors[0])
        if isinstance(error, UserError) or not isinstance(error, Exception):
            raise error from failed
        lines = str(error).splitlines() or [type(error).__name__]
        raise UserError(folder, f"is not a checkpoint of this model ({lines[0]})", _REMEDY) from failed
    if (name := (own_not_finite if alone else not_finite)(tensors)) is not None:
        raise _ruined(folder, name)


def read_rows(folder: Path, name: str, first: int, rows: int) -> Tensor:
    """Some rows of a table of a checkpoint, ``[rows, D]``, from the ``first`` on. No collective.

    Raises:
        UserError: as of `read_tensors`.
    """
    saved = saved_tensors(folder)[name]
    found = torch.empty((rows, *saved.size[1:]), dtype=saved.properties.dtype)
    read_tensors(folder, {name: found}, _Rows(first), alone=True)
    return found


class _Rows(DefaultLoadPlanner):
    """Reads rows of tensors, from the ``first`` on, into tensors of these alone."""

    def __init__(self, first: int):
        super().__init__()
        self._first = first

    def create_local_plan(self) -> LoadPlan:
        assert self.metadata is not None
        items = []
        for name, value in self.state_dict.items():
            chunk = ChunkStorageMetadata(torch.Size([self._first] + [0] * (value.dim() - 1)), value.size())
            saved = self.metadata.state_dict_metadata[name]
            items += create_read_items_for_chunk_list(name, saved, [chunk])  # type: ignore[arg-type]
        return LoadPlan(items)

    def lookup_tensor(self, index: MetadataIndex) -> Tensor:
        return self.state_dict[index.fqn]


def _ruined(where: Path, name: str) -> UserError:
    return UserError(where, f"holds values that are NaN or infinite ({name}), so no model can predict with it", _REMEDY)


def read_plain(path: Path) -> Any:
    """Tensors, numbers and names in dicts and lists, as ``torch.save`` writes them; code is not run.

    Raises:
        UserError: the file is something else, or a tensor holds values that are NaN or infinite.
    """
    try:
        read = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # of a damaged file, almost anything
        raise UserError(path, f"cannot be read ({type(error).__name__})", _REMEDY) from error
    if (name := own_not_finite(read)) is not None:
        raise _ruined(path, name)
    return read


class _Reader(FileSystemReader):
    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        path = Path(self._get_metadata_path(kwargs.get("rank")))
        try:
            with path.open("rb") as file:
                metadata = _Unpickler(file).load()
            _check(metadata, path.parent)
        except UserError:
            raise
        except Exception as error:  # of a damaged pickle, almost anything
            told = str(error).splitlines() or [type(error).__name__]
            raise UserError(path, f"is damaged, or was not written by foundrank: {told[0]}", _REMEDY) from error
        metadata.storage_meta = StorageMeta(load_id=self.load_id)
        return metadata


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        if (module, name) == ("builtins", "getattr"):
            return _member
        if (module, name) not in _NAMES:
            raise pickle.UnpicklingError(f"it names {module}.{name}")
        return super().find_class(module, name)

    def persistent_load(self, pid: Any) -> NoReturn:
        raise pickle.UnpicklingError("it names an object elsewhere")


def _member(kind: Any, name: Any) -> Any:
    """A kind of memory format by its name: Python 3.11.0 to 3.11.3 pickle a member of an enumeration as an attribute of it."""
    if kind is not _MEM_FORMAT_ENCODING or name not in _MEM_FORMAT_ENCODING.__members__:
        raise pickle.UnpicklingError(f"it names {name!r} of {kind!r}")
    return _MEM_FORMAT_ENCODING[name]


def _check(metadata: Any, folder: Path) -> None:
    """Makes sure that each tensor is made of pieces that are in files of the folder, as many bytes as it takes."""
    if not isinstance(metadata, Metadata):
        raise ValueError("it is no table of contents")
    tensors, places = metadata.state_dict_metadata, metadata.storage_data
    if not isinstance(tensors, dict) or not isinstance(places, dict):
        raise ValueError("it names no tensors")
    lengths: dict[str, int] = {}
    for index, place in places.items():
        if not isinstance(index, MetadataIndex) or not isinstance(place, _StorageInfo):
            raise ValueError("a place is none")
        name = place.relative_path
        if not isinstance(name, str) or not _PIECE.fullmatch(name):
            raise ValueError(f"{name!r} is no file of a checkpoint")
        if name not in lengths:
            lengths[name] = (folder / name).stat().st_size
        if place.transform_descriptors or not _counts(place.offset, place.length):
            raise ValueError(f"{index.fqn!r} is kept in a way that foundrank does not know")
        if place.offset + place.length > lengths[name]:
            raise ValueError(f"{index.fqn!r} is said to be beyond the end of {name}")
    for name, tensor in tensors.items():
        if not isinstance(tensor, TensorStorageMetadata) or not isinstance(tensor.properties.dtype, torch.dtype):
            raise ValueError(f"{name!r} is no tensor")
        if not _counts(*tensor.size) or sum(_volume(chunk.sizes) for chunk in tensor.chunks) != _volume(tensor.size):
            raise ValueError(f"the pieces of {name!r} do not make it up")
        for chunk in tensor.chunks:
            place = places[MetadataIndex(name, chunk.offsets)]
            ends = [start + size for start, size in zip(chunk.offsets, chunk.sizes, strict=True)]
            inside = all(end <= size for end, size in zip(ends, tensor.size, strict=True))
            if not _counts(*chunk.offsets) or not inside:
                raise ValueError(f"a piece of {name!r} is outside it")
            if _volume(chunk.sizes) * tensor.properties.dtype.itemsize > place.length:
                raise ValueError(f"a piece of {name!r} is larger than its place")


def _counts(*values: Any) -> bool:
    return all(isinstance(value, int) and value >= 0 for value in values)


def _volume(sizes: Any) -> int:
    if not _counts(*sizes):
        raise ValueError("a size is no number")
    return math.prod(sizes)
