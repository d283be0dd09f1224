import os
import stat
import subprocess
import sys
import tempfile

from foundrank.dist.ranks import temporary_folder as temporary


def test_the_folder_is_nobody_else_s_and_all_temporary_files_go_there(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(temporary, "_made", [])  # not the folder that another test of this process has left
    folder = temporary.private_folder()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert folder == temporary.private_folder()
    with tempfile.NamedTemporaryFile() as file:
        assert file.name.startswith(f"{folder}/")
    code = "import tempfile; print(tempfile.mkdtemp())"
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert made.startswith(f"{folder}/")
    temporary.remove_private_folder()
    assert not folder.exists()
    temporary.remove_private_folder()


def test_a_long_name_leaves_room_for_sockets(tmp_path, monkeypatch):
    long = tmp_path / ("x" * 90)
    long.mkdir()
    monkeypatch.setenv("TMPDIR", str(long))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(temporary, "_made", [])  # not the folder that another test of this process has left
    folder = temporary.private_folder()
    assert len(str(folder)) < 80
    temporary.remove_private_folder()
    assert os.listdir(long) == []
