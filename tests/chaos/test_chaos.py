"""A fault in each job; `make chaos` injects hundreds."""

import pytest

from .chaos import disturb
from .jobs import JOBS, Bench


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("chaos"))


@pytest.mark.parametrize("job", JOBS)
def test_a_disturbed_job_ends_as_an_undisturbed_one(bench, job):
    assert sum(disturb(bench, job, seed=2026, strikes=1).values()) >= 1
