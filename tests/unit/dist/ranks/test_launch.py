import subprocess
import sys

import pytest

from foundrank.data.errors import UserError
from foundrank.dist.ranks.launch import check_gpus


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
