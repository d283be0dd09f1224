"""Tasks that nobody has started together find the same file, whatever others have left."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from foundrank.data.errors import UserError
from foundrank.dist.slurm import meeting

TASK = """
import os, sys, time
from pathlib import Path
from foundrank.dist.slurm.meeting import leave_meeting, met_at
file, rank = met_at(), int(os.environ["RANK"])
Path(f"{file}.{rank}").touch()
while not rank and not all(Path(f"{file}.{one}").exists() for one in range(int(os.environ["WORLD_SIZE"]))):
    time.sleep(0.01)  # as a process group is joined by all
time.sleep(float(sys.argv[1]))
leave_meeting()
print(file, flush=True)
"""


def task(place: Path, rank: int, ranks: int, stays: float = 0.0) -> subprocess.Popen[str]:
    environment = os.environ | {meeting.MEETING: str(place), "RANK": str(rank), "WORLD_SIZE": str(ranks)}
    return subprocess.Popen(
        [sys.executable, "-c", TASK, str(stays)], env=environment, stdout=subprocess.PIPE, text=True
    )


def met(tasks: list[subprocess.Popen[str]]) -> str:
    said = {one.communicate(timeout=60)[0] for one in tasks}
    assert {one.returncode for one in tasks} == {0}
    [file] = said
    return file


def test_tasks_meet_in_a_file_of_each_command(tmp_path):
    place = tmp_path / "place"
    one = met([task(place, rank, 3) for rank in (2, 0, 1)])
    assert not place.exists()
    first = [task(place, 0, 2, stays=0.5), task(place, 1, 2)]  # task 1 has its next command before task 0
    first[1].wait(60)
    second = [task(place, 1, 2)]
    two = met(first)
    second.append(task(place, 0, 2))
    assert len({one, two, met(second)}) == 3


def test_what_a_killed_task_has_left_is_nobody_who_waits(tmp_path):
    place = tmp_path / "place"
    killed = task(place, 1, 2)
    while not (place / "rank1").exists():
        time.sleep(0.01)
    killed.kill()
    killed.wait()
    zero = task(place, 0, 2)
    time.sleep(0.5)
    assert zero.poll() is None
    met([zero, task(place, 1, 2)])


def test_a_place_of_somebody_else_and_tasks_that_do_not_come_are_told(tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setenv(meeting.MEETING, str(tmp_path / "open"))
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o755)
    with pytest.raises(UserError, match="you alone can enter"):
        meeting.met_at()
    monkeypatch.setenv(meeting.MEETING, str(tmp_path / "place"))
    monkeypatch.setattr(meeting, "_PATIENCE", 0.1)
    with pytest.raises(UserError, match=r"tasks 1, 2 have not come"):
        meeting.met_at()
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(UserError, match=r"task 0 has not come"):
        meeting.met_at()
