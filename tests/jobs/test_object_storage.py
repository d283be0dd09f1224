"""The commands on s3:// URIs, against a server on this machine: the same numbers as on local folders."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pyarrow import fs

from ..s3 import Bucket, s3_bucket
from .commands import foundrank, without_temporaries

DOMAIN = "shop_feed"


@pytest.fixture(scope="module")
def bucket(world: Path) -> Iterator[Bucket]:
    """A bucket with the world's experiment, events and catalogs."""
    with s3_bucket("foundrank") as started:
        for name in ("experiment.yaml", "events", "catalogs"):
            target = f"foundrank/world/{name}"
            fs.copy_files(str(world / name), target, fs.LocalFileSystem(), started.files)
        yield started


def test_describe_reads_an_experiment_in_a_bucket(bucket, embedded):
    said = foundrank("describe", f"{bucket.uri}/world", "--set", f"text.store={embedded / 'text_store'}").stdout
    assert said == foundrank("describe", embedded).stdout


def test_scores_from_a_bucket_into_a_bucket(bucket, run, embedded, tmp_path):
    source = "world/events/shop_feed/test"
    job = ("--domain", DOMAIN, "--keep", "click")
    foundrank("score", run, f"{bucket.uri}/{source}", f"{bucket.uri}/scores", *job, "-p", "1")
    foundrank("score", run, embedded.parent / source, tmp_path / "scores", *job, "-p", "1")
    names = without_temporaries(tmp_path / "scores")
    assert bucket.keys("scores") == names
    for name in names:
        if name.startswith("part-"):
            assert bucket.get(f"scores/{name}") == (tmp_path / "scores" / name).read_bytes()
