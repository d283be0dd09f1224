"""A checkpoint from elsewhere is read without running what it says, and only from its own files."""

import io
import os
import pickle
from collections.abc import Callable
from dataclasses import replace
from enum import Enum
from pathlib import Path

import pytest
import torch
from torch.distributed.checkpoint import state_dict_saver
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import _MEM_FORMAT_ENCODING, BytesStorageMetadata, Metadata

from foundrank.data.errors import UserError
from foundrank.dist.run.checkpoint_reader import read_plain, read_tensors, saved_tensors


def tensors() -> dict[str, dict[str, torch.Tensor]]:
    return {"model": {"weight": torch.arange(6.0).reshape(2, 3), "count": torch.tensor(7), "none": torch.zeros(0, 4)}}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    state_dict_saver.save(tensors(), checkpoint_id=tmp_path / "step", no_dist=True)
    return tmp_path / "step"


def test_what_was_saved_is_read(folder: Path):
    assert saved_tensors(folder)["model.weight"].size == torch.Size([2, 3])
    read = {"model": {name: torch.full_like(value, 9) for name, value in tensors()["model"].items()}}
    read_tensors(folder, read)
    for name, value in tensors()["model"].items():
        assert torch.equal(read["model"][name], value)


class Attributes(pickle.Pickler):
    """Writes members of enumerations as Python 3.11.0 to 3.11.3 do."""

    def reducer_override(self, obj: object):
        return (getattr, (type(obj), obj.name)) if isinstance(obj, Enum) else NotImplemented


def test_what_an_older_python_has_written_is_read(folder: Path):
    metadata, written = FileSystemReader(folder).read_metadata(), io.BytesIO()
    Attributes(written).dump(metadata)
    assert b"getattr" in written.getvalue()
    (folder / ".metadata").write_bytes(written.getvalue())
    assert saved_tensors(folder)["model.weight"].properties.memory_format is torch.contiguous_format


class Call:
    def __init__(self, function: Callable[..., object], *arguments: object):
        self.how = function, arguments

    def __reduce__(self):
        return self.how


def test_no_code_of_its_runs(folder: Path, tmp_path: Path):
    for call in (
        Call(os.mkdir, str(tmp_path / "ran")),
        Call(eval, f"__import__('os').mkdir({str(tmp_path / 'ran')!r})"),
        Call(getattr, torch.Size, "__add__"),
        Call(getattr, _MEM_FORMAT_ENCODING, "__class__"),
    ):
        (folder / ".metadata").write_bytes(pickle.dumps({"inside": [call]}))
        with pytest.raises(UserError, match=r"\.metadata: is damaged, or was not written by foundrank: it names"):
            saved_tensors(folder)
        with pytest.raises(UserError, match=r"it names"):
            read_tensors(folder, tensors())
    torch.save(Call(os.mkdir, str(tmp_path / "ran")), tmp_path / "dense.pt")
    with pytest.raises(UserError, match=r"dense\.pt: cannot be read"):
        read_plain(tmp_path / "dense.pt")
    assert not (tmp_path / "ran").exists()


def changed(folder: Path, change: Callable[[Metadata], None]) -> None:
    metadata = FileSystemReader(folder).read_metadata()
    change(metadata)
    (folder / ".metadata").write_bytes(pickle.dumps(metadata))


def of_place(**fields: object) -> Callable[[Metadata], None]:
    def change(metadata: Metadata) -> None:
        metadata.storage_data = {index: replace(place, **fields) for index, place in metadata.storage_data.items()}

    return change


def as_bytes(metadata: Metadata) -> None:
    """What is said to be bytes would be unpickled by torch."""
    metadata.state_dict_metadata["model.weight"] = BytesStorageMetadata()


def larger(metadata: Metadata) -> None:
    metadata.state_dict_metadata["model.weight"].size = torch.Size([10**9, 10**9])  # type: ignore[union-attr]


def larger_piece(metadata: Metadata) -> None:
    tensor = metadata.state_dict_metadata["model.weight"]
    tensor.size = tensor.chunks[0].sizes = torch.Size([10**9, 10**9])  # type: ignore[union-attr]


def moved_piece(metadata: Metadata) -> None:
    metadata.state_dict_metadata["model.weight"].chunks[0].offsets = torch.Size([1, 1])  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (of_place(relative_path="../../outside"), "is no file of a checkpoint"),
        (of_place(relative_path="/etc/passwd"), "is no file of a checkpoint"),
        (of_place(relative_path="__0_1.distcp"), "No such file"),
        (of_place(offset=10**9), "beyond the end"),
        (of_place(offset=-1), "in a way"),
        (of_place(length=-1), "in a way"),
        (of_place(transform_descriptors=["zstd"]), "in a way"),
        (as_bytes, "BytesStorageMetadata"),
        (larger, "do not make it up"),
        (larger_piece, "larger than its place"),
        (moved_piece, "."),
    ],
)
def test_what_it_says_is_checked(folder: Path, change: Callable[[Metadata], None], told: str):
    changed(folder, change)
    with pytest.raises(UserError, match=told):
        saved_tensors(folder)
    with pytest.raises(UserError, match=told):
        read_tensors(folder, tensors())


def test_another_model_is_told(folder: Path):
    for wanted in ({"other": torch.zeros(2)}, {"weight": torch.zeros(3, 3)}):
        with pytest.raises(UserError, match=r"is not a checkpoint of this model \("):
            read_tensors(folder, {"model": wanted})


def test_being_asked_to_stop_while_it_reads_is_no_damage(folder: Path, monkeypatch: pytest.MonkeyPatch):
    def stop(*_: object) -> None:
        raise SystemExit(75)

    monkeypatch.setattr(FileSystemReader, "read_data", stop)
    with pytest.raises(SystemExit):
        read_tensors(folder, tensors())


@pytest.mark.parametrize("size", [0, 1, 100])
def test_damage_is_told(folder: Path, size: int):
    piece = next(folder.glob("*.distcp"))
    content = piece.read_bytes()
    piece.write_bytes(content[:size])
    with pytest.raises(UserError):
        read_tensors(folder, tensors())
    piece.write_bytes(content)
    metadata = (folder / ".metadata").read_bytes()
    (folder / ".metadata").write_bytes(metadata[:size])
    with pytest.raises(UserError):
        saved_tensors(folder)
