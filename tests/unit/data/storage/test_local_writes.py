from pathlib import Path

import pytest

from foundrank.data.errors import UserError
from foundrank.data.storage.local_writes import make_folder, open_new, refuse_links, replace_file


@pytest.fixture
def precious(tmp_path: Path) -> Path:
    path = tmp_path / "precious"
    path.write_text("precious")
    return path


def test_a_link_is_replaced_and_never_written_through(tmp_path: Path, precious: Path):
    for name in ("file", ".temporary", "new"):
        (tmp_path / name).symlink_to(precious)
    replace_file(tmp_path / "file", b"new", tmp_path / ".temporary")
    with open_new(tmp_path / "new") as stream:
        stream.write(b"new")
    assert precious.read_text() == "precious"
    assert (tmp_path / "file").read_text() == (tmp_path / "new").read_text() == "new"
    assert not (tmp_path / "file").is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "new", "precious"]


def test_a_folder_in_the_way_is_told(tmp_path: Path):
    (tmp_path / ".temporary").mkdir()
    with pytest.raises(UserError, match=r"\.temporary: is a folder"):
        replace_file(tmp_path / "file", b"new", tmp_path / ".temporary")


def test_a_new_folder_is_no_link(tmp_path: Path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to("elsewhere")
    with pytest.raises(FileExistsError):
        make_folder(tmp_path / "link")
    make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()


def test_links_are_refused(tmp_path: Path, precious: Path):
    folder, link = tmp_path / "run", tmp_path / "link"
    (folder / "checkpoints").mkdir(parents=True)
    link.symlink_to(folder)
    refuse_links(link, files=True)
    (folder / "checkpoints" / "file").symlink_to(precious)
    refuse_links(folder)
    with pytest.raises(UserError, match=r"checkpoints/file: is a link to '.*precious'"):
        refuse_links(folder, files=True)
    (folder / "vocabulary").symlink_to(tmp_path)
    with pytest.raises(UserError, match="link/vocabulary: is a link"):
        refuse_links(link)
