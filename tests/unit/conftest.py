"""What unit tests of several folders use."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from ..s3 import Bucket, s3_bucket


@pytest.fixture(scope="module")
def bucket(request: pytest.FixtureRequest) -> Iterator[Bucket]:
    """An empty bucket named after the module, `test-mirror` for instance: servers of one process share their content."""
    with s3_bucket(request.module.__name__.rpartition(".")[2].replace("_", "-")) as started:
        yield started


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where mirrors of buckets are, for one test."""
    monkeypatch.setenv("FOUNDRANK_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"
