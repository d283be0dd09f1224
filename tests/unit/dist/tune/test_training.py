"""What a training gets of the machine."""

import pytest

from foundrank.dist.tune import training
from foundrank.dist.tune.training import gpus, share_of_machine


@pytest.fixture
def eight(monkeypatch):
    monkeypatch.setattr(training, "cpus", lambda: 8)


def test_cpus_are_divided_among_those_at_work(eight):
    assert share_of_machine({"CUDA_VISIBLE_DEVICES": ""}, 1, 0, 4) == {"OMP_NUM_THREADS": "2"}
    assert share_of_machine({"CUDA_VISIBLE_DEVICES": ""}, 2, 0, 8) == {"OMP_NUM_THREADS": "1"}
    assert share_of_machine({"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "3"}, 1, 0, 4) == {}


def test_each_has_gpus_of_its_own(eight):
    environment = {"CUDA_VISIBLE_DEVICES": "4,5,6,7", "OMP_NUM_THREADS": "1"}
    assert [share_of_machine(environment, 2, slot, 2)["CUDA_VISIBLE_DEVICES"] for slot in (0, 1)] == ["4,5", "6,7"]
    assert share_of_machine(environment, 4, 0, 1) == {}  # one alone has what there is
    assert gpus({"CUDA_VISIBLE_DEVICES": ""}) == []
