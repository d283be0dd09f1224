import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from foundrank.data.errors import UserError
from foundrank.dist.ranks.launch import check_gpus
from foundrank.dist.ranks.local_ranks import _asked_status


@pytest.mark.parametrize("gpus", [1, 4])
def test_more_ranks_than_gpus_are_refused(monkeypatch, gpus):
    monkeypatch.setattr("torch.cuda.device_count", lambda: gpus)
    check_gpus(gpus)
    with pytest.raises(UserError, match=rf"is {gpus + 1} on a machine with {gpus} GPU\(s\).*\n?.*-p {gpus}"):
        check_gpus(gpus + 1)


def test_without_gpus_there_may_be_any_number_of_ranks(monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    check_gpus(64)


@pytest.mark.parametrize(
    ("modules", "not_needed"),
    [
        (
            "foundrank.dist.cli.app, foundrank.dist.train.prepare",
            ["torchrec", "fbgemm_gpu"],
        ),  # what launches a training
        ("foundrank.dist.train.train, foundrank.dist.ranks.preemption", ["matplotlib"]),  # what trains
    ],
)
def test_a_job_begins_without_what_takes_long_to_import(modules: str, not_needed: list[str]):
    code = f"import sys, {modules}; print([name for name in {not_needed} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("statuses", "status"),
    [
        ([75, 75], 75),
        ([-9, 75], 75),  # one took too long
        ([0, 0], 0),  # they were done
        ([0, 75], 75),
        ([75, 2], 2),  # a full disk, say
        ([None, -15], 75),
    ],
)
def test_what_ranks_that_were_asked_to_stop_leave_with_is_passed_on(statuses: list[int | None], status: int):
    ranks: list[Any] = [SimpleNamespace(exitcode=one) for one in statuses]
    assert _asked_status(ranks) == status
