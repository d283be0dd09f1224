"""A file is the same while its bytes are, whatever its name and times say."""

import os
import shutil
import time

import pytest

from foundrank.data.storage import file_identity as identity
from foundrank.data.storage.file_identity import identities, same_content


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"one")
    return path


def test_a_rewrite_of_the_same_size_and_time_is_another_file(file):
    status = file.stat()
    before = identities([str(file)])
    file.write_bytes(b"two")
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert not same_content(before, identities([str(file)], before))


def test_a_copy_is_the_same_file(file, tmp_path):
    shutil.copyfile(file, tmp_path / "b")
    assert same_content(identities([str(file)]), identities([str(tmp_path / "b")]))


def test_what_cannot_have_changed_is_not_read_again(file, monkeypatch):
    monkeypatch.setattr(identity.time, "time_ns", lambda now=time.time_ns(): now + 60 * 10**9)
    before = identities([str(file)])
    monkeypatch.setattr(identity, "_sum", lambda file: "read again")
    assert identities([str(file)], before) == before
    file.write_bytes(b"two")
    assert identities([str(file)], before)[0]["checksum"] == "read again"


def test_what_has_just_been_written_is_read_again(file, monkeypatch):
    before = identities([str(file)])
    monkeypatch.setattr(identity, "_sum", lambda file: "read again")
    assert identities([str(file)], before)[0]["checksum"] == "read again"
