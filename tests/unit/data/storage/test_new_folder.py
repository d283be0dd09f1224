"""Folders that a command makes: in place, whole, and nothing left of what failed."""

from pathlib import Path

import pytest

from foundrank.data.errors import UserError
from foundrank.data.storage.new_folder import check_new, is_free, new_folder


@pytest.mark.parametrize("where", ["new", "parents/new", ".", "empty", "link", "volume"])
def test_it_is_filled_in_place(tmp_path: Path, monkeypatch, where):
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("link").symlink_to("empty")
    if where == ".":
        monkeypatch.chdir("empty")
    if where == "volume":
        Path("volume/lost+found").mkdir(parents=True)
    with new_folder(Path(where), last="last") as folder:
        for name in ("last", "a/b"):
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).touch()
        assert is_free(Path(where))
    assert {path.name for path in Path(where).iterdir()} - {"lost+found"} == {"a", "last"}
    with pytest.raises(UserError, match="not an empty folder"):
        check_new(Path(where))


def test_what_fails_leaves_nothing_and_what_died_is_replaced(tmp_path: Path):
    def fail() -> None:
        with new_folder(tmp_path / "x/new", last="last") as folder:
            (folder / "a").touch()
            raise OSError("no room")

    with pytest.raises(OSError, match="no room"):
        fail()
    assert list((tmp_path / "x").iterdir()) == []
    (tmp_path / "died/.foundrank.tmp").mkdir(parents=True)
    (tmp_path / "died/a").mkdir()
    (tmp_path / "died/a/old").touch()
    assert not is_free(tmp_path / "died")
    with new_folder(tmp_path / "died", last="last", left={"a"}) as folder:
        (folder / "a").mkdir()
    assert sorted(path.name for path in (tmp_path / "died").rglob("*")) == ["a"]


@pytest.mark.parametrize("where", ["file", "file/below", "nowhere"])
def test_what_cannot_be_made_is_told(tmp_path: Path, where):
    (tmp_path / "file").touch()
    (tmp_path / "nowhere").symlink_to(tmp_path / "gone")
    with pytest.raises(UserError, match=r"not an empty folder|cannot be made"):
        check_new(tmp_path / where)
