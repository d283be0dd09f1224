"""When a partition that others write is taken for complete."""

import os
from pathlib import Path

import pytest

from foundrank.dist.increments.partitions import partitions
from foundrank.dist.increments.watch import Watch


@pytest.fixture
def events(tmp_path: Path) -> Path:
    for domain in ("shop", "video"):
        for day in (1, 2):
            write(tmp_path / domain / f"day={day}" / "part-0.parquet", "rows")
    return tmp_path


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def found(events: Path, *domains: str) -> list[dict[str, str]]:
    return partitions({domain: str(events / domain / "day=*" / "*.parquet") for domain in domains})


def test_without_marks_a_partition_is_complete_once_it_stays_the_same(events: Path):
    watch, every = Watch(), found(events, "shop")
    assert not watch.is_complete(every[0], every)  # seen for the first time
    assert watch.is_complete(every[0], every)
    assert not watch.is_complete(every[1], every)
    write(events / "shop" / "day=2" / "part-1.parquet", "more")
    assert not watch.is_complete(every[1], every)  # a file more
    assert watch.is_complete(every[1], every)
    first = events / "shop" / "day=2" / "part-0.parquet"
    for change in (lambda: write(first, "rows, and more"), lambda: os.utime(first, ns=(1, 1)), first.unlink):
        change()
        assert not watch.is_complete(every[1], every)
        assert watch.is_complete(every[1], every)


def test_where_one_is_marked_the_marks_count_alone(events: Path):
    write(events / "shop" / "day=1" / "_SUCCESS", "")
    watch, every = Watch(), found(events, "shop")
    assert watch.is_complete(every[0], every)
    assert [watch.is_complete(every[1], every) for _ in range(3)] == [False] * 3
    write(events / "shop" / "day=2" / "_SUCCESS", "")
    assert watch.is_complete(every[1], every)


def test_of_several_domains_each_must_have_the_last_partition(events: Path):
    (events / "video" / "day=2" / "part-0.parquet").unlink()
    for day in (1, 2):
        write(events / "shop" / f"day={day}" / "_SUCCESS", "")
    write(events / "video" / "day=1" / "_SUCCESS", "")
    watch, every = Watch(), found(events, "shop", "video")
    assert watch.is_complete(every[0], every)
    assert not watch.is_complete(every[1], every)
    write(events / "video" / "day=2" / "part-0.parquet", "rows")
    every = found(events, "shop", "video")
    assert not watch.is_complete(every[1], every)  # of which one has no mark
    write(events / "video" / "day=2" / "_SUCCESS", "")
    assert watch.is_complete(every[1], every)
    # A domain that had nothing that day is not waited for once there is a later one.
    write(events / "shop" / "day=3" / "part-0.parquet", "rows")
    write(events / "shop" / "day=3" / "_SUCCESS", "")
    write(events / "shop" / "day=4" / "part-0.parquet", "rows")
    every = found(events, "shop", "video")
    assert watch.is_complete(every[2], every)
    assert not watch.is_complete(every[3], every)
