"""A pointer to the run in use: replaced at once, gone back from, and never to a run that is not what was promoted."""

import json
import shutil
from pathlib import Path

import pytest

from foundrank.data.errors import UserError
from foundrank.data.storage import storage
from foundrank.dist.promote.promote import current_run, promote, promote_inside, roll_back


def run(folder: Path, content: str = "a") -> Path:
    checkpoint = folder / "checkpoints" / "step_00000010"
    checkpoint.mkdir(parents=True, exist_ok=True)
    (folder / "experiment.yaml").touch()
    (checkpoint / "COMMITTED").write_text(json.dumps({"sha256": {"state.json": content * 64}}))
    return folder


def test_the_target_stands_for_the_run_and_remembers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    one, two, target = run(tmp_path / "one"), run(tmp_path / "two", "b"), tmp_path / "current"
    monkeypatch.chdir(tmp_path)
    assert promote("one", target) == (str(one), None, True)  # by its whole path, from wherever it is read
    assert promote(one, target).changed is False
    assert current_run(target) == str(one)
    assert promote(two, target) == (str(two), str(one), True)
    assert (current_run(target), current_run(one)) == (str(two), one)
    assert roll_back(target) == (str(one), str(two), True)
    assert current_run(target) == str(one)
    assert promote(two, target).changed
    assert roll_back(target).run == str(one)  # not to the promotion that was given up before
    pointer = json.loads((target / "current.json").read_text())
    assert [Path(one["run"]).name for one in pointer["history"]] == ["one", "two", "two"]
    assert [one.get("rolled_back") is not None for one in pointer["history"]] == [False, True, True]
    with pytest.raises(UserError, match="has no run before"):
        roll_back(target)
    assert promote(target, tmp_path / "other").run == str(one)


def test_a_run_that_has_changed_since_is_told(tmp_path: Path):
    one, two, target = run(tmp_path / "one"), run(tmp_path / "two", "b"), tmp_path / "current"
    promote(one, target)
    promote(two, target)
    run(tmp_path / "two", "c")
    with pytest.raises(UserError, match=r"(?s)two.*another best checkpoint.*promote --rollback"):
        current_run(target)
    shutil.rmtree(one)
    with pytest.raises(UserError, match="is not a run"):
        roll_back(target)
    assert json.loads((target / "current.json").read_text())["run"] == str(two)


def test_what_cannot_be_promoted_or_gone_back_from(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "experiment.yaml").touch()
    one = run(tmp_path / "one")
    for wrong, told in (("none", "is not a run"), ("empty", "no complete checkpoint")):
        with pytest.raises(UserError, match=told):
            promote(tmp_path / wrong, tmp_path / "current")
    (run(tmp_path / "cut") / "checkpoints" / "step_00000010" / "COMMITTED").write_text("{")
    with pytest.raises(UserError, match="COMMITTED"):
        promote(tmp_path / "cut", tmp_path / "current")
    with pytest.raises(UserError, match="no run was promoted to it"):
        promote(one, one)
    with pytest.raises(UserError, match="is no target"):
        roll_back(one)
    assert not (tmp_path / "current").exists()
    (tmp_path / "empty" / "current.json").write_text('{"run": 1}')
    with pytest.raises(UserError, match=r"current\.json: is damaged"):
        current_run(tmp_path / "empty")


def test_a_run_in_a_bucket_stands_for_one_in_its_folder(tmp_path: Path, bucket, cache):
    for folder, content in (("run", "a"), ("run/increments/one", "b")):
        for path in run(tmp_path / folder, content).rglob("*"):
            if path.is_file():
                bucket.put(f"feed/{path.relative_to(tmp_path / 'run')}", path.read_bytes())
    uri = f"{bucket.uri}/feed"
    assert current_run(uri) == uri
    promote_inside(uri, "increments/one")
    assert current_run(uri) == f"{uri}/increments/one"
    assert promote(uri, f"{bucket.uri}/in_use").run == f"{uri}/increments/one"
    assert roll_back(uri).run == "."
    assert current_run(uri) == uri


def test_a_target_in_a_bucket(tmp_path: Path, bucket, cache):
    one = run(tmp_path / "one")
    target = f"{bucket.uri}/current"
    assert current_run(f"{bucket.uri}/nothing") == f"{bucket.uri}/nothing"
    promote(one, target)
    assert current_run(target) == str(one)
    assert storage.names(target) == {"current.json"}
