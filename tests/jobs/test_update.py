"""Updating a run from new events, day after day: killed, twice, with nothing, and with bad days."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

import foundrank as foundrank_module
from foundrank.data.errors import UserError
from foundrank.dist.run.run_folder import INCREMENTS
from foundrank.scorer import Scorer

from .commands import COMMAND, WITHOUT_DROPOUT, Here, foundrank, settings
from .updates import assert_same, current, day, kill_at, record


@pytest.fixture
def run(feed: Path, tmp_path: Path) -> Path:
    """A copy of the run."""
    return Path(shutil.copytree(feed / "RUN", tmp_path / "run"))


@pytest.fixture(scope="module")
def undisturbed(feed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run after three days, on two ranks."""
    run = Path(shutil.copytree(feed / "RUN", tmp_path_factory.mktemp("undisturbed") / "run"))
    for number in (6, 7, 8):
        foundrank("update", run, "--events", day(feed, number), "-p", 2, "--keep", 9)
    return run


def test_days_are_learned_and_each_is_scored_first(feed: Path, undisturbed: Path, here: Here, tmp_path: Path):
    lines = record(undisturbed)
    assert [line["increment"] for line in lines] == [1, 2, 3]
    assert [line["base"] for line in lines] == [".", lines[0]["run"], lines[1]["run"]]
    assert current(undisturbed) == undisturbed / lines[-1]["run"]
    for number, line in zip((6, 7, 8), lines, strict=True):
        rows = pq.read_table(feed / f"events/feed/day=2026-01-{number:02d}").num_rows
        (before,) = (row for row in line["before"]["rows"] if row["slice"] == "all")
        assert line["rows"] == before["rows"] == rows
        assert line["before"]["score"] == pytest.approx(before["auc"])
        assert line["ids"]["id_item"]["ids"] <= 60
        assert line["ids"]["id_item"]["new"] > 0
        assert line["ids"]["id_item"]["given_up"] > 0
    # What was said of the third day beforehand is what the version after the second says of it.
    out = [tmp_path / name for name in ("now", "then")]
    foundrank("score", undisturbed, day(feed, 8), out[0], "--domain", "feed")
    foundrank("score", undisturbed / lines[-1]["run"], day(feed, 8), out[1], "--domain", "feed")
    now, then = (pq.read_table(folder) for folder in out)
    assert now.equals(then)
    foundrank("score", undisturbed / lines[1]["run"], day(feed, 8), tmp_path / "before", "--domain", "feed")
    before = pq.read_table(tmp_path / "before")["score_click"].to_numpy()
    assert not np.array_equal(before, now["score_click"].to_numpy())
    clicks = pq.read_table(feed / "events/feed/day=2026-01-08")["click"].to_numpy()
    order = np.argsort(np.argsort(before)) + 1
    auc = (order[clicks > 0].sum() - (clicks.sum() * (clicks.sum() + 1)) / 2) / (clicks.sum() * (1 - clicks).sum())
    assert auc == pytest.approx(lines[2]["before"]["score"], abs=2e-3)  # ties aside
    status, told = here("evaluate", undisturbed)
    assert status == 0, told
    assert (current(undisturbed) / "evaluation.json").is_file()


def test_what_was_learned_is_not_learned_again(feed: Path, run: Path, here: Here):
    foundrank("update", run, "--events", day(feed, 6))
    lines = record(run)
    for number in (6, 2):  # of an increment, and of the first training
        assert "nothing new" in foundrank("update", run, "--events", day(feed, number)).stdout
    late = Path(shutil.copytree(feed / "events/feed/day=2026-01-06", run.parent / "late"))
    shutil.copy(next(Path(feed / "events/feed/day=2026-01-07").iterdir()), late / "late.parquet")
    status, told = here("update", run, "--events", late / "*.parquet")
    assert status == 2
    assert "part-00000.parquet" in told
    assert "was learned from in increment 1, and 1 of the 2 files beside it are new" in " ".join(told.split())
    assert record(run) == lines
    # Another file with the same bytes is the same.
    moved = run.parent / "moved.parquet"
    shutil.copy(next(Path(feed / "events/feed/day=2026-01-06").iterdir()), moved)
    assert "nothing new" in foundrank("update", run, "--events", moved).stdout


@pytest.mark.parametrize("moment", ["counted", "checkpoint", "published"])
def test_a_killed_update_goes_on_to_the_bit_and_no_day_is_lost(feed: Path, run: Path, undisturbed: Path, moment: str):
    foundrank("update", run, "--events", day(feed, 6), "-p", 2)
    kill_at(run, [*COMMAND, "update", str(run), "--events", day(feed, 7), "-p", "2"], moment)
    if moment == "published":  # and it came no further, or did it
        (run / "increments.jsonl").write_text(json.dumps(record(run)[0]) + "\n")
    assert len(record(run)) == 1
    # The next night's job, which knows nothing of the seventh.
    foundrank("update", run, "--events", day(feed, 8), "-p", 2)
    lines, others = record(run), record(undisturbed)
    assert [line["digest"] for line in lines] == [line["digest"] for line in others]
    assert [line["before"] for line in lines] == [line["before"] for line in others]
    assert_same(current(run), current(undisturbed))


def test_an_update_on_other_ranks_gives_ids_the_same_rows(feed: Path, run: Path, undisturbed: Path):
    foundrank("update", run, "--events", day(feed, 6))
    first = undisturbed / record(undisturbed)[0]["run"]
    assert record(run)[0]["before"]["score"] == pytest.approx(record(undisturbed)[0]["before"]["score"], abs=1e-6)
    for name in ("id_item.parquet", "id_user.parquet"):
        assert (current(run) / "vocabulary" / name).read_bytes() == (first / "vocabulary" / name).read_bytes()


def test_one_line_learns_each_new_day_in_turn(feed: Path, run: Path, undisturbed: Path):
    days = run.parent / "days"
    days.mkdir()
    for number in (1, 2, 3, 6, 7):
        (days / f"day={number:02d}").symlink_to(feed / f"events/feed/day=2026-01-{number:02d}")
    line = ["update", run, "--events", str(days / "day=*/*.parquet"), "-p", 2]
    foundrank(*line)
    (days / "day=08").symlink_to(feed / "events/feed/day=2026-01-08")
    foundrank(*line)
    assert "nothing new" in foundrank(*line).stdout
    assert [one["digest"] for one in record(run)] == [one["digest"] for one in record(undisturbed)]
    assert_same(current(run), current(undisturbed))


def test_a_bad_day_is_given_up_for_the_version_before(feed: Path, run: Path, tmp_path: Path):
    """Its labels are the other way round, which shows on the day after."""
    table = pq.read_table(next(Path(feed / "events/feed/day=2026-01-06").iterdir()))
    wrong = table.set_column(
        table.schema.get_field_index("click"),
        "click",
        pc.subtract(pa.scalar(1, pa.int8()), table["click"].cast(pa.int8())),
    )
    pq.write_table(wrong, tmp_path / "wrong.parquet")
    faster = ["--set", "training.epochs=4", "--set", "training.sparse_learning_rate=0.05"]
    foundrank("update", run, "--events", tmp_path / "wrong.parquet", *faster)
    told = foundrank("update", run, "--events", day(feed, 7), "--max-drop", "0.01")
    assert "that one is the current version again" in told.stdout + told.stderr
    bad, good = record(run)
    assert bad["base"] == good["base"] == "."
    assert [bad["increment"], good["increment"]] == [1, 2]
    foundrank("update", run, "--events", day(feed, 6))  # the right ones of that day
    assert len(record(run)) == 3


def test_a_bad_day_among_others_is_left_out_from_then_on(feed: Path, run: Path, tmp_path: Path):
    days = tmp_path / "days"
    (days / "day=06").mkdir(parents=True)
    table = pq.read_table(next(Path(feed / "events/feed/day=2026-01-06").iterdir()))
    clicks = pc.subtract(pa.scalar(1, pa.int8()), table["click"].cast(pa.int8()))
    wrong = table.set_column(table.schema.get_field_index("click"), "click", clicks)
    pq.write_table(wrong, days / "day=06" / "part.parquet")
    faster = ["--set", "training.epochs=4", "--set", "training.sparse_learning_rate=0.05"]
    line = ["update", run, "--events", str(days / "day=*/*.parquet"), "--max-drop", "0.01"]
    foundrank(*line, *faster)
    shutil.copytree(feed / "events/feed/day=2026-01-07", days / "day=07")
    foundrank(*line)
    assert [(one["increment"], one["base"]) for one in record(run)] == [(1, "."), (2, ".")]
    assert "nothing new" in foundrank(*line).stdout
    pq.write_table(table, days / "day=06" / "part.parquet")  # mended
    foundrank(*line)
    assert [one["increment"] for one in record(run)] == [1, 2, 3]


def test_parts_without_a_row_are_alike_every_day(feed: Path, run: Path, tmp_path: Path):
    for number in (6, 7):
        day_folder = Path(shutil.copytree(feed / f"events/feed/day=2026-01-0{number}", tmp_path / f"days/day={number}"))
        file = next(day_folder.iterdir())
        pq.write_table(pq.read_table(file).slice(0, 0), day_folder / "empty.parquet")
    foundrank("update", run, "--events", str(tmp_path / "days/day=*/*.parquet"))
    assert [one["increment"] for one in record(run)] == [1, 2]


def test_a_day_that_is_rewritten_after_a_kill_is_learned_as_it_is_then(feed: Path, run: Path, tmp_path: Path):
    foundrank("update", run, "--events", day(feed, 6), "-p", 2)
    late = Path(shutil.copytree(feed / "events/feed/day=2026-01-07", tmp_path / "late"))
    events = str(late / "*.parquet")
    kill_at(run, [*COMMAND, "update", str(run), "--events", events, "-p", "2"], "checkpoint")
    file = next(late.iterdir())
    table = pq.read_table(file)
    pq.write_table(table.slice(100), file)
    foundrank("update", run, "--events", events, "-p", 2)
    assert [one["rows"] for one in record(run)][1:] == [len(table) - 100]
    assert "nothing new" in foundrank("update", run, "--events", events).stdout
    assert len([*(run / INCREMENTS).iterdir()]) == 2


def test_going_back(feed: Path, run: Path, here: Here):
    assert here("update", run, "--rollback")[0] == 2  # nothing to go back to
    foundrank("update", run, "--events", day(feed, 6))
    foundrank("update", run, "--events", day(feed, 7))
    first, second = record(run)
    assert sorted(folder.name for folder in (run / INCREMENTS).iterdir()) == [first["run"][11:], second["run"][11:]]
    foundrank("update", run, "--rollback")
    assert current(run) == run / first["run"]
    foundrank("update", run, "--events", day(feed, 7))  # given up, so it may come again
    assert record(run)[-1]["increment"] == 3
    assert record(run)[-1]["base"] == first["run"]
    foundrank("update", run, "--rollback")
    foundrank("update", run, "--rollback")
    assert current(run) == run


def test_a_quiet_domain_stays_what_it_is(world: Path, tmp_path: Path):
    more = settings(
        *WITHOUT_DROPOUT, "text.vectors=none", "training.max_steps=10", "only=[shop_feed, video_feed, coupons_feed]"
    )
    foundrank("train", world, "--run-dir", tmp_path / "run", *more)
    events = world / "events" / "{domain}" / "test" / "*.parquet"
    foundrank("update", tmp_path / "run", "--events", f"shop_feed={str(events).format(domain='shop_feed')}")
    (first,) = record(tmp_path / "run")
    assert set(first["files"]) == {"shop_feed"}
    assert {row["domain"] for row in first["before"]["rows"]} == {"shop_feed"}
    foundrank("evaluate", tmp_path / "run")
    assert {row["domain"] for row in json.loads((current(tmp_path / "run") / "evaluation.json").read_text())["rows"]} == {
        "shop_feed", "video_feed", "coupons_feed",
    }  # fmt: skip
    empty = tmp_path / "empty.parquet"
    pq.write_table(pq.read_table(next(Path(world / "events/shop_feed/test").iterdir())).slice(0, 0), empty)
    assert "nothing new" in foundrank("update", tmp_path / "run", "--events", f"shop_feed={empty}").stdout
    assert len(record(tmp_path / "run")) == 1


@pytest.fixture
def mistakes(feed: Path, tmp_path: Path) -> dict[str, tuple[list[object], str]]:
    unfinished = Path(shutil.copytree(feed / "RUN", tmp_path / "unfinished"))
    info = json.loads((unfinished / "run.json").read_text())
    (unfinished / "run.json").write_text(json.dumps({key: info[key] for key in ("format", "joined", "folder")}))
    run, pattern = feed / "RUN", day(feed, 6)
    return {
        "unfinished": ([unfinished, "--events", pattern], "has not been trained to its end"),
        "no run": ([tmp_path, "--events", pattern], "is not a run"),
        "no file": ([run, "--events", feed / "nothing/*.parquet"], "names no file"),
        "no events": ([run, "--check"], "--events is missing. Name the new events"),
        "rollback": ([run, "--rollback", "--events", pattern], "goes with no other option"),
        "twice": ([run, "--events", pattern, "--events", pattern], "names events of 'feed', as another one does"),
        "keep": ([run, "--events", pattern, "--max-drop", "0.1", "--keep", 1], "removes the version before"),
        "optimizer": ([run, "--events", pattern, "--check", "--set", "training.optimizer=sgd"], "was trained by adamw"),
        "setting": ([run, "--events", pattern, "--set", "training.batchsize=3"], "batch_size"),
        "fewer rows": ([run, "--events", pattern, "--set", "entities.item.rows=59"], "as many `rows`"),
        "column": ([run, "--events", feed / "catalogs/items.parquet"], "is missing, and"),
    }


def test_mistakes_are_told_before_there_is_anything_of_an_increment(mistakes, feed: Path, here: Here):
    for name, (arguments, words) in mistakes.items():
        status, told = here("update", *arguments)
        assert status == 2, (name, told)
        assert words in " ".join(told.split()), (name, told)
    assert not (feed / "RUN" / INCREMENTS).exists() or not [*(feed / "RUN" / INCREMENTS).iterdir()]
    assert not (feed / "RUN" / "current.json").exists()
    status, told = here("update", feed / "RUN", "--events", day(feed, 6), "--check")
    assert status == 0, told
    assert not (feed / "RUN" / "current.json").exists()


def test_a_scorer_that_follows_gives_the_bits_of_one_that_is_loaded(
    feed: Path, run: Path, monkeypatch: pytest.MonkeyPatch
):
    rows = pq.read_table(feed / "events/feed/day=2026-01-09")
    following, late = foundrank_module.load(run), foundrank_module.load(run)
    assert not following.refresh()
    whole = Scorer._load
    for number in (6, 7, 8):
        foundrank("update", run, "--events", day(feed, number), "-p", 2, "--keep", 2)
        before = following.score(rows, "feed")
        with monkeypatch.context() as patched:
            patched.setattr(Scorer, "_load", None)  # small updates alone
            assert following.refresh()
            assert not following.refresh()
        loaded = foundrank_module.load(run).score(rows, "feed")
        assert following.score(rows, "feed").equals(loaded)
        assert not before.equals(loaded)
    assert Scorer._load is whole
    assert sorted(folder.name for folder in (run / "deltas").iterdir()) == ["00002", "00003"]
    assert late.refresh()  # which is too far behind: it loads all
    assert late.score(rows, "feed").equals(following.score(rows, "feed"))
    foundrank("update", run, "--rollback")
    assert following.refresh()
    assert following.score(rows, "feed").equals(foundrank_module.load(run / record(run)[1]["run"]).score(rows, "feed"))


def test_a_damaged_delta_changes_nothing(feed: Path, run: Path):
    rows = pq.read_table(feed / "events/feed/day=2026-01-09")
    following = foundrank_module.load(run)
    before = following.score(rows, "feed")
    foundrank("update", run, "--events", day(feed, 6))
    file = run / "deltas" / "00001" / "dense.safetensors"
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(UserError, match=r"dense\.safetensors"):
        following.refresh()
    assert following.score(rows, "feed").equals(before)
    shutil.rmtree(file.parent)
    with pytest.MonkeyPatch.context() as patched:  # all of it, which may fail as well
        patched.setattr("foundrank.scorer.model_of", None)
        with pytest.raises(TypeError):
            following.refresh()
    assert following.score(rows, "feed").equals(before)
    assert following.refresh()
    assert following.score(rows, "feed").equals(foundrank_module.load(run).score(rows, "feed"))
