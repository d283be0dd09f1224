"""What the environment says of ranks: empty is not there, half of it and what is no number are told."""

import pytest

from foundrank.data.errors import UserError
from foundrank.data.storage.mirror import mirrored, origin, shown
from foundrank.data.storage.storage import with_home
from foundrank.dist.ranks.environment import check_launcher, launched, of_machine
from foundrank.dist.ranks.local_ranks import spawn
from foundrank.dist.sharding.cpu_tables import load_kernels

WHOLE = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "here", "MASTER_PORT": "29500"}


@pytest.fixture(autouse=True)
def nothing(monkeypatch):
    for name in (*WHOLE, "LOCAL_RANK", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)


def test_what_is_empty_is_not_there(monkeypatch):
    for name in (*WHOLE, "LOCAL_RANK", "LOCAL_WORLD_SIZE"):
        monkeypatch.setenv(name, "")
    check_launcher(own_store=False)
    assert not launched()
    assert of_machine() == (0, 1)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"MASTER_ADDR": ""}, "MASTER_ADDR: is not set"),
        ({"MASTER_PORT": ""}, "MASTER_PORT: is not set"),
        ({"MASTER_PORT": "http"}, "MASTER_PORT: is 'http'"),
        ({"RANK": "one"}, "RANK: is 'one'"),
        ({"RANK": "2"}, "RANK: is 2 of WORLD_SIZE 2"),
        ({"WORLD_SIZE": "-1"}, "WORLD_SIZE: is '-1'"),
        ({"LOCAL_RANK": "x"}, "LOCAL_RANK: is 'x'"),
    ],
)
def test_what_a_launcher_must_say(monkeypatch, changes, words):
    for name, value in WHOLE.items():
        monkeypatch.setenv(name, value)
    check_launcher(own_store=False)
    for name, value in changes.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=words):
        check_launcher(own_store=False)


@pytest.mark.parametrize(("compiler", "words"), [("'", "CXX is no command"), ("no-such -O2", "no C[+][+] compiler")])
def test_compilers_that_are_none(monkeypatch, compiler, words):
    monkeypatch.setenv("CXX", compiler)
    with pytest.raises(FileNotFoundError, match=words):
        load_kernels()


def test_a_user_without_a_home(monkeypatch):
    monkeypatch.delenv("FOUNDRANK_CACHE", raising=False)
    monkeypatch.setenv("FOUNDRANK_CACHE", "~nobody-of-that-name/cache")
    assert shown("a text") == "a text"
    with pytest.raises(UserError, match="FOUNDRANK_CACHE"):
        mirrored("s3://bucket/run", "read")
    with pytest.raises(UserError, match="home"):
        with_home("~nobody-of-that-name/data")
    assert origin(with_home("/a")) is None


def test_how_long_ranks_have_to_end_is_checked_before_they_begin(monkeypatch):
    monkeypatch.setenv("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", "soon")
    with pytest.raises(UserError, match="TORCH_ELASTIC_SHUTDOWN_TIMEOUT: is 'soon'"):
        spawn(print, 2)
