"""Libraries are loaded from the cache only if they are this user's and whole; else they are made again."""

import ctypes
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from foundrank.dist.sharding.kernel_cache import library

NAME = "answer.so"


@pytest.fixture(scope="module")
def compiled(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("compiled")
    (folder / "answer.c").write_text("int answer() { return 42; }\n")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", folder / NAME, folder / "answer.c"], check=True)
    return folder / NAME


@pytest.fixture
def made(compiled, tmp_path, monkeypatch):
    """Asks for the library; whether it had to be made."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def ask() -> bool:
        times: list[Path] = []

        def make(path: Path) -> None:
            times.append(path)
            shutil.copy(compiled, path)

        loaded = library(NAME, make)
        assert isinstance(loaded, ctypes.CDLL)
        assert loaded.answer() == 42
        return bool(times)

    return ask


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "foundrank" / NAME


def test_made_once(made, kept):
    assert made()
    assert not made()
    assert [path.name for path in kept.parent.iterdir()] == [NAME]


def test_a_damaged_one_is_made_again(made, kept):
    made()
    whole = kept.read_bytes()
    for content in (b"", whole[:20], whole[: len(whole) // 2], whole[:-1], whole + b"x", b"x" + whole[1:]):
        kept.unlink()  # it is mapped into this process
        kept.write_bytes(content)
        assert made()
        assert kept.read_bytes() == whole
    assert not made()


@pytest.mark.parametrize("of", ["file", "folder"])
@pytest.mark.parametrize("mode", [0o720, 0o702])
def test_one_that_others_can_write_is_not_loaded(made, kept, of, mode):
    made()
    (kept if of == "file" else kept.parent).chmod(mode)
    assert made()
    assert not made()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("of", ["file", "folder"])
def test_another_user_s_is_not_loaded(made, kept, of):
    made()
    os.chown(kept if of == "file" else kept.parent, 12345, 12345)
    assert made()


def test_a_link_is_not_loaded(made, kept, tmp_path):
    made()
    shutil.move(kept, tmp_path / "elsewhere.so")
    kept.symlink_to(tmp_path / "elsewhere.so")
    assert made()
    assert not kept.is_symlink()
    shutil.move(kept.parent, tmp_path / "elsewhere")
    kept.parent.symlink_to(tmp_path / "elsewhere")
    assert made()


def test_a_cache_of_the_working_folder_is_none(made, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", "cache")
    assert made()
    assert not (tmp_path / "cache").exists()
    assert (tmp_path / "home" / ".cache" / "foundrank" / NAME).is_file()
