"""A few faults of each job; `make chaos` injects hundreds."""

import pytest

from .chaos import disturb
from .jobs import JOBS, Bench


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("chaos"))


@pytest.mark.parametrize("job", JOBS)
def test_a_job_disturbed_again_and_again_ends_as_an_undisturbed_one(bench, job):
    strikes = 2 if job == "train" else 1
    assert sum(disturb(bench, job, seed=2026, strikes=strikes).values()) >= strikes
