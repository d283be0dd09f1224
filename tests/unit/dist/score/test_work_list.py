"""Where a scoring job may write, under which names, and what it does about input that has changed."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from foundrank.data.config.sections.bad_data import BadDataConfig
from foundrank.data.errors import UserError
from foundrank.data.events.event_files import list_events
from foundrank.data.storage.globs import parquet_below
from foundrank.dist.score import work_list
from foundrank.dist.score.hive_columns import hive_columns
from foundrank.dist.score.kept_columns import check_names_apart
from foundrank.dist.score.output_folder import succeed
from foundrank.dist.score.part_files import statistics_of_parts, unfinished, write_part
from foundrank.dist.score.scoring_input import ScoringJob
from foundrank.dist.score.work_list import WorkList, planned_parts
from foundrank.dist.score.writing import Writing

UNUSED: Any = None


@pytest.fixture(autouse=True)
def no_catalogs(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(work_list, "joined", lambda experiment, before: [])


def planned(source: Path, out: Path, model: str = "a", claims: bool = True, **writing: Any) -> WorkList:
    job = ScoringJob("run", str(source), str(out), writing=Writing(**writing))
    files = list_events(parquet_below(source), "the input", BadDataConfig())
    hive = hive_columns(files.files, {"domain"})
    passed_on = {"user": "entities.user.id"} | dict.fromkeys(job.kept, "--partition-by")
    own = {"domain": pa.string()}
    return planned_parts(job, {"checkpoint": model}, files, hive, UNUSED, passed_on, own, claims)


def finish(work: WorkList, score: float = 0.5) -> list[str]:
    """Writes what is not there yet, the input as it is with a score; the names of the parts."""
    todo = unfinished(work)
    for part in todo:
        table = pq.ParquetFile(part.file).read_row_group(part.group)
        for name, value in part.hive.items():
            table = table.append_column(name, pa.repeat(value, len(table)))
        table = table.append_column("score", pa.array([score] * len(table), pa.float32()))
        write_part(work, part, table, {"rows": part.rows, "unreadable": 0, "domains": {}})
    succeed(work.out, work.folder, json.dumps({"scores": {}, "rows": work.rows}).encode())
    return [part.name for part in todo]


def read(out: Path) -> list[tuple[int, float]]:
    parts = [pq.ParquetFile(part).read() for part in sorted(out.rglob("part-*")) if "_" not in part.parent.name]
    return [(row["user"], row["score"]) for part in parts for row in part.to_pylist()]


def write(path: Path, *users: Any, kind: Any = None, **more: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"user": pa.array(users, kind), **more}), path)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "all" / "input"
    write(folder / "b.parquet", 1)
    return folder


@pytest.mark.parametrize("below", ["", "below", "below/deeper"])
def test_output_is_never_part_of_the_input(source: Path, below: str):
    with pytest.raises(UserError, match="is part of the input"):
        planned(source, source / below)
    assert [one.name for one in source.iterdir()] == ["b.parquet"]


def test_a_folder_that_holds_the_input_is_not_written_to(source: Path):
    with pytest.raises(UserError, match="is not empty and holds no scoring job"):
        planned(source, source.parent)


def test_names_of_the_output_are_not_those_of_kept_columns():
    check_names_apart({"request": "--keep"}, ["domain", "score_click"])
    with pytest.raises(UserError, match="--keep: 'score_click' is the name of a column that is written here"):
        check_names_apart({"score_click": "--keep", "request": "--keep"}, ["domain", "score_click"])


def test_a_check_writes_nothing_and_binds_to_nothing(source: Path, tmp_path: Path):
    out = tmp_path / "out"
    planned(source, out, "another", claims=False)
    assert not out.exists()
    finish(planned(source, out))
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    planned(source, out, "another", claims=False, overwrite=True)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before


def test_late_files_are_added_and_parts_that_are_there_stay(source: Path, tmp_path: Path):
    out = tmp_path / "out"
    assert finish(planned(source, out)) == ["part-00000-00000.parquet"]
    write(source / "a.parquet", 2, kind=pa.int8())  # before the others by its name, and narrower
    work = planned(source, out)
    assert unfinished(work) == work.parts[1:]
    assert not (out / "_SUCCESS").exists()
    assert finish(work, 0.25) == ["part-00001-00000.parquet"]
    assert read(out) == [(1, 0.5), (2, 0.25)]
    assert len({pq.read_schema(part).remove_metadata() for part in out.glob("part-*")}) == 1
    assert finish(planned(source, out)) == []
    assert planned(source, out).rows == 2


def test_a_late_file_of_another_type_is_refused(source: Path, tmp_path: Path):
    finish(planned(source, tmp_path / "out"))
    write(source / "late.parquet", "x")
    with pytest.raises(UserError, match=r"late\.parquet: column 'user': is string, .*output that is there has int64"):
        planned(source, tmp_path / "out")


@pytest.mark.parametrize("change", ["was written again", "is no longer there"])
def test_changed_input_is_told_with_the_way_out(source: Path, tmp_path: Path, change: str):
    out = tmp_path / "out"
    write(source / "a.parquet", 2)
    finish(planned(source, out))
    write(source / "a.parquet", 3) if "again" in change else (source / "a.parquet").unlink()
    with pytest.raises(UserError, match=rf"(?s)a\.parquet {change}.*--overwrite"):
        planned(source, out)
    assert (out / "_SUCCESS").exists()
    finish(planned(source, out, overwrite=True))
    assert read(out) == ([(3, 0.5), (1, 0.5)] if "again" in change else [(1, 0.5)])


def test_a_file_that_nothing_is_written_of_may_change(source: Path, tmp_path: Path):
    out = tmp_path / "out"
    finish(planned(source, out))
    write(source / "late.parquet", 2)
    planned(source, out)  # and the job is killed
    write(source / "late.parquet", 3)
    finish(planned(source, out))
    assert read(out) == [(1, 0.5), (3, 0.5)]


def test_another_models_scores_stay_until_the_new_ones_are_whole(source: Path, tmp_path: Path):
    out = tmp_path / "out"
    write(source / "c.parquet", 2)
    finish(planned(source, out))
    with pytest.raises(UserError, match=r"(?s)checkpoint differ.*--overwrite"):
        planned(source, out, "b")
    work = planned(source, out, "b", overwrite=True)
    first, second = work.parts
    write_part(work, first, pa.table({"user": [1], "score": pa.array([0.75], pa.float32())}), {})
    assert read(out) == [(1, 0.5), (2, 0.5)]
    assert (out / "_SUCCESS").exists()
    (source / "b.parquet").rename(source / "d.parquet")  # moved, and the same
    assert finish(planned(source, out, "b", overwrite=True), 0.75) == [second.name]
    assert read(out) == [(1, 0.75), (2, 0.75)]
    assert not (out / "_next").exists()
    assert finish(planned(source, out, "b", overwrite=True)) == []  # and once more there is nothing to do


@pytest.mark.parametrize("moved", [0, 1, 2, 3])
def test_a_swap_that_is_cut_short_goes_on(source: Path, tmp_path: Path, moved: int, monkeypatch: pytest.MonkeyPatch):
    out = tmp_path / "out"
    for name in "cde":
        write(source / f"{name}.parquet", 2)
    finish(planned(source, out))
    (source / "e.parquet").unlink()
    work = planned(source, out, "b", overwrite=True)
    moves = []

    def move(old: str, new: str) -> None:
        if len(moves) == moved:
            raise KeyboardInterrupt
        moves.append(old)
        Path(old).rename(new)

    with monkeypatch.context() as patched:
        patched.setattr("foundrank.dist.score.output_folder.move_file", move)
        with pytest.raises(KeyboardInterrupt):
            finish(work, 0.75)
    assert not (out / "_SUCCESS").exists()
    planned(source, out, "b", claims=False)
    assert finish(planned(source, out, "b")) == []
    assert read(out) == [(1, 0.75), (2, 0.75), (2, 0.75)]
    assert [path.name for path in out.iterdir() if path.name.startswith("_next")] == []


def test_folders_of_the_input_are_columns_and_folders_of_the_output(tmp_path: Path):
    source, out = tmp_path / "input", tmp_path / "out"
    write(source / "day=2026-11-27" / "domain=7" / "a.parquet", 1, 2)
    write(source / "day=2026-11-28" / "domain=a%2Fb" / "a.parquet", 3, domain=["own"])
    write(source / "day=__HIVE_DEFAULT_PARTITION__" / "hour=3" / "a.parquet", 4, domain=["x/y"])
    work = planned(source, out, partition_by=("day", "domain"))
    values = [{name: value.as_py() for name, value in part.hive.items()} for part in work.parts]
    assert values == [{"day": "2026-11-27", "domain": "7"}, {"day": "2026-11-28"}, {"day": None, "hour": 3}]
    assert len(finish(work)) == 3
    assert [part.relative_to(out).parent.as_posix() for part in sorted(out.rglob("part-*.parquet"))] == [
        "day=2026-11-27/domain=7",
        "day=2026-11-28/domain=own",
        "day=__HIVE_DEFAULT_PARTITION__/domain=x%2Fy",
    ]
    table = pq.read_table(out / "day=2026-11-27")
    assert table.column_names == ["user", "score", "domain"]
    assert finish(planned(source, out, partition_by=("day", "domain"))) == []
    assert statistics_of_parts(work) == [{"rows": 4, "unreadable": 0, "domains": {}}]
    with pytest.raises(UserError, match="partition_by differ"):
        planned(source, out)


def test_columns_that_name_no_folder_are_refused(source: Path, tmp_path: Path):
    write(source / "b.parquet", 1, price=[0.5])
    for columns, told in (
        (("price",), "is double"),
        (("nothing",), "no column"),
        (("domain", "domain"), "named twice"),
    ):
        with pytest.raises(UserError, match=told):
            planned(source, tmp_path / "out", partition_by=columns)
    assert not (tmp_path / "out").exists()
