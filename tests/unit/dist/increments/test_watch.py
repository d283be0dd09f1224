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


class Looks:
    """A watch that looks anew each time it is asked."""

    def __init__(self, events: Path, *domains: str):
        self.events, self.domains, self.watch = events, domains, Watch()

    def __call__(self, day: int) -> bool:
        self.every = partitions({name: str(self.events / name / "day=*" / "*.parquet") for name in self.domains})
        self.watch.look(self.every, len(self.domains))
        return self.watch.is_complete(self.every[day - 1])


def test_without_marks_a_partition_is_complete_once_it_stays_the_same(events: Path):
    complete = Looks(events, "shop")
    assert not complete(1)  # seen for the first time
    assert complete(1)
    assert complete(2)  # which was there at the look before, too
    write(events / "shop" / "day=2" / "part-1.parquet", "more")
    assert not complete(2)  # a file more
    assert complete(2)
    first = events / "shop" / "day=2" / "part-0.parquet"
    for change in (lambda: write(first, "rows, and more"), lambda: os.utime(first, ns=(1, 1)), first.unlink):
        change()
        assert not complete(2)
        assert complete(2)


def test_what_was_learned_is_not_looked_into_until_it_changes(events: Path):
    complete = Looks(events, "shop")
    assert not complete(1)
    assert not complete.watch.is_done(complete.every[0])
    complete.watch.done(complete.every[0])
    complete(1)
    assert complete.watch.is_done(complete.every[0])
    assert not complete.watch.is_done(complete.every[1])
    write(events / "shop" / "day=1" / "part-1.parquet", "late")
    complete(1)
    assert not complete.watch.is_done(complete.every[0])


def test_where_one_is_marked_the_marks_count_alone(events: Path):
    write(events / "shop" / "day=1" / "_SUCCESS", "")
    complete = Looks(events, "shop")
    assert complete(1)
    assert [complete(2) for _ in range(3)] == [False] * 3
    write(events / "shop" / "day=2" / "_SUCCESS", "")
    assert complete(2)


def test_of_several_domains_each_must_have_the_last_partition(events: Path):
    (events / "video" / "day=2" / "part-0.parquet").unlink()
    for day in (1, 2):
        write(events / "shop" / f"day={day}" / "_SUCCESS", "")
    write(events / "video" / "day=1" / "_SUCCESS", "")
    complete = Looks(events, "shop", "video")
    assert complete(1)
    assert not complete(2)
    write(events / "video" / "day=2" / "part-0.parquet", "rows")
    assert not complete(2)  # of which one has no mark
    write(events / "video" / "day=2" / "_SUCCESS", "")
    assert complete(2)
    # A domain that had nothing that day is not waited for once there is a later one.
    write(events / "shop" / "day=3" / "part-0.parquet", "rows")
    write(events / "shop" / "day=3" / "_SUCCESS", "")
    write(events / "shop" / "day=4" / "part-0.parquet", "rows")
    assert complete(3)
    assert not complete(4)


def test_a_domain_of_which_nothing_is_there_yet_is_waited_for(events: Path):
    complete = Looks(events, "shop", "music")
    assert not complete(2)
    assert not complete(2)
