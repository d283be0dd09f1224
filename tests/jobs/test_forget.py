"""Ids that a run forgets: nothing of them is left in what stands for it from then on."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import foundrank as foundrank_module
from foundrank.data.arrow.ids import id_keys
from foundrank.data.vocabulary.managed import ManagedIds
from foundrank.dist.run.run_folder import INCREMENTS
from foundrank.model.representation.embedding_tables import initial_rows
from foundrank.scorer import Scorer

from .commands import COMMAND, WITHOUT_DROPOUT, Here, foundrank, settings
from .updates import assert_same, current, day, everything, kill_at, record


@pytest.fixture(scope="module")
def updated(feed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run after a day."""
    run = Path(shutil.copytree(feed / "RUN", tmp_path_factory.mktemp("updated") / "run"))
    foundrank("update", run, "--events", day(feed, 6), "-p", 2)
    return run


@pytest.fixture
def run(updated: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(updated, tmp_path / "run"))


@pytest.fixture
def gone(feed: Path, tmp_path: Path) -> Path:
    """Fifteen users of that day, and one whom nobody knows."""
    users = pq.read_table(feed / "events/feed/day=2026-01-06")["user"].unique()[:15].to_pylist()
    pq.write_table(
        pa.table({"user": [*users, None, "nobody" if isinstance(users[0], str) else 10**9]}), tmp_path / "gone.parquet"
    )
    return tmp_path / "gone.parquet"


def keys_in(file: Path) -> np.ndarray:
    keys, valid = id_keys(pq.read_table(file)["user"])
    return keys[valid]


def test_nothing_of_forgotten_ids_is_left_and_all_else_is_as_it_was(feed: Path, run: Path, gone: Path):
    before, version, keys = everything(current(run)), current(run), keys_in(gone)
    then = ManagedIds.load(version / "vocabulary" / "id_user.parquet")
    rows = then.lookup(keys)
    assert (rows > 0).sum() == 15
    rows = rows[rows > 0]
    following = foundrank_module.load(run)
    told = foundrank("update", run, "--forget", f"user={gone}", "-p", 2)
    assert "15 ids forgotten" in told.stdout + told.stderr
    table = ManagedIds.load(current(run) / "vocabulary" / "id_user.parquet")
    assert not table.lookup(keys).any()
    assert not np.isin(keys, table.keys).any()
    assert not any(np.isin(keys, seen).any() for seen, _ in table.state.counted)
    assert table.counts[rows].sum() == 0

    now = everything(current(run))
    assert now.keys() == before.keys()
    weights = "model.embeddings.embedding_bags.id_user.weight"
    of_users = [
        name for name, value in now.items() if "bags.id_user." in name and value.dim() and len(value) == table.rows
    ]
    assert weights in of_users
    assert len(of_users) > 1  # with what the optimizer has learned of them
    at = torch.from_numpy(rows.astype(np.int64))
    others = torch.ones(table.rows, dtype=torch.bool)
    others[at] = False
    for name, value in now.items():
        if name in of_users:
            assert torch.equal(value[others], before[name][others]), name
            assert not torch.equal(value[at], before[name][at]), name
        elif name != "step":
            assert torch.equal(value, before[name]), name
    times = torch.from_numpy(table.state.rows.given_up[rows])
    expected = initial_rows("id_user", 2026, at, range(8), 8, times)
    assert torch.equal(now[weights][at], expected)
    for name in (name for name in of_users if name != weights):
        assert not now[name][at].any(), name

    # What knew them is gone, but for the first training, and there is no way back to it.
    assert [folder.name for folder in (run / INCREMENTS).iterdir()] == [current(run).name]
    assert [folder.name for folder in (run / "deltas").iterdir()] == ["00002"]
    written = pq.read_table(run / "deltas/00002/ids-id_user.parquet")
    assert not np.isin(keys, written["key"].to_numpy()).any()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Scorer, "_load", None)
        assert following.refresh()
    rows_to_score = pq.read_table(feed / "events/feed/day=2026-01-06")
    assert following.score(rows_to_score, "feed").equals(foundrank_module.load(run).score(rows_to_score, "feed"))


def test_there_is_no_way_back_and_the_next_day_goes_on(feed: Path, run: Path, gone: Path, here: Here):
    foundrank("update", run, "--forget", f"user={gone}")
    for command in (("update", run, "--rollback"), ("promote", "--rollback", run)):
        status, told = here(*command)
        assert (status, "has forgotten ids" in told) == (2, True), told
    assert "nothing is known of any of these ids" in foundrank("update", run, "--forget", f"user={gone}").stdout
    assert [(one["rows"], one["files"]) for one in record(run)][1:] == [(0, {})]
    # Who comes back is new.
    before = ManagedIds.load(current(run) / "vocabulary" / "id_user.parquet")
    foundrank("update", run, "--events", day(feed, 7), "--max-drop", "0")
    assert record(run)[2]["base"] == record(run)[1]["run"]
    after, keys = ManagedIds.load(current(run) / "vocabulary" / "id_user.parquet"), keys_in(gone)
    assert not before.lookup(keys).any()
    came = of_the_next_day(feed)
    assert (after.lookup(keys) > 0).tolist() == [key in came for key in keys.tolist()]
    assert "nothing new" in foundrank("update", run, "--events", day(feed, 6)).stdout  # it has been learned from
    for folder in ("checkpoints", "vocabulary"):  # the first training's, which know them still
        shutil.rmtree(run / folder)
    foundrank("update", run, "--events", day(feed, 8))
    foundrank("score", run, day(feed, 9), run.parent / "scores", "--domain", "feed")


def of_the_next_day(feed: Path) -> set[int]:
    """Keys of the users of the day after."""
    keys, _ = id_keys(pq.read_table(feed / "events/feed/day=2026-01-07")["user"])
    return set(keys.tolist())


@pytest.mark.parametrize("moment", ["counted", "published"])
def test_killed_it_goes_on(feed: Path, run: Path, gone: Path, here: Here, moment: str):
    undisturbed = Path(shutil.copytree(run, run.parent / "undisturbed"))
    command = ["update", "--forget", f"user={gone}", "-p", "2"]
    foundrank(command[0], undisturbed, *command[1:])
    kill_at(run, [*COMMAND, command[0], str(run), *command[1:]], moment)
    foundrank(command[0], run, *command[1:])
    versions = [folder.name for folder in (run / INCREMENTS).iterdir()]
    assert versions == [current(undisturbed).name]  # and none that knows them
    assert [folder.name for folder in (run / "deltas").iterdir()] == ["00002"]
    assert here("update", run, "--rollback")[0] == 2
    foundrank("update", run, "--events", day(feed, 7), "-p", 2)
    foundrank("update", undisturbed, "--events", day(feed, 7), "-p", 2)
    assert [one["digest"] for one in record(run)] == [one["digest"] for one in record(undisturbed)]
    assert_same(current(run), current(undisturbed))


def test_mistakes(feed: Path, run: Path, gone: Path, tmp_path: Path, here: Here):
    pq.write_table(pa.table({"user": pa.array([], pq.read_table(gone)["user"].type)}), tmp_path / "none.parquet")
    pq.write_table(pa.table({"user": [1.5]}), tmp_path / "numbers.parquet")
    pq.write_table(pa.table({"item": [1]}), tmp_path / "item.parquet")
    mistakes = {
        "entity": ([f"users={gone}"], "does not say of which entity"),
        "no entity": ([f"{gone}"], "Write ENTITY=FILES"),
        "no file": ([f"user={tmp_path}/nothing.parquet"], "no file matches"),
        "empty": ([f"user={tmp_path}/none.parquet"], "names no user"),
        "type": ([f"user={tmp_path}/numbers.parquet"], "double"),
        "column": ([f"user={tmp_path}/item.parquet"], "'user' is missing"),
        "with events": ([f"user={gone}", "--events", day(feed, 7)], "goes with neither --events"),
        "with keep": ([f"user={gone}", "--keep", 5], "goes with neither --events"),
        "with follow": ([f"user={gone}", "--follow", 5], "goes with neither --events"),
    }
    for name, (arguments, words) in mistakes.items():
        status, told = here("update", run, "--forget", *arguments)
        assert status == 2, (name, told)
        assert words in " ".join(told.split()), (name, told)
    mistakes_of_rollback = here("update", run, "--rollback", "--keep", 3)
    assert (mistakes_of_rollback[0], "goes with no other option" in mistakes_of_rollback[1]) == (2, True)
    assert len(record(run)) == 1
    status, told = here("update", run, "--forget", f"user={gone}", "--check")
    assert status == 0, told
    assert len([*(run / INCREMENTS).iterdir()]) == 1


def test_ids_that_keep_their_rows_are_not_forgotten_in_part(world: Path, tmp_path: Path, here: Here):
    more = settings(*WITHOUT_DROPOUT, "text.vectors=none", "training.max_steps=5", "only=[shop_feed]")
    foundrank("train", world, "--run-dir", tmp_path / "run", *more)
    events = next(Path(world / "events/shop_feed/test").iterdir())
    status, told = here("update", tmp_path / "run", "--forget", f"user={events}")
    assert status == 2
    assert "is not managed" in told
    assert "entities.user.rows=N" in told
