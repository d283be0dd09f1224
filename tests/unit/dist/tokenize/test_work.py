"""A tokenize job that was stopped goes on where it was."""

import numpy as np
import pytest
import torch

from foundrank.data.codes.code_store import codes_folder
from foundrank.data.config.sections.entities import Stored
from foundrank.dist.ranks.runtime import ALONE
from foundrank.dist.tokenize import tokenize as job
from foundrank.dist.tokenize.work import Work
from foundrank.model.tokenizers.rq_kmeans import RqKmeans
from tests.coded_world import opened, write_world

BLOCK = np.array([[1, 40_000], [65_535, 0]], np.uint16)


class Stopped(Exception):
    """What ends a job in the middle."""


@pytest.fixture
def work(tmp_path) -> Work:
    work = Work(tmp_path / "store", "this job")
    work.begin()
    return work


def test_what_was_done_is_there_for_the_same_job_alone(tmp_path, work):
    assert work.codebook is None
    assert work.block(0, 2) is None
    work.keep_codebook({"centroids": torch.arange(6.0).view(2, 3).T})
    work.keep_block(4096, BLOCK)
    again = Work(tmp_path / "store", "this job")
    again.begin()
    codebook, block = again.codebook, again.block(4096, 2)
    assert codebook is not None
    assert torch.equal(codebook["centroids"], torch.arange(6.0).view(2, 3).T)
    assert np.array_equal(block, BLOCK)
    assert again.block(0, 2) is None
    other = Work(tmp_path / "store", "another job")
    assert other.block(4096, 2) is None
    other.begin()
    assert not work.folder.exists()
    other.end()
    assert not (tmp_path / "store/work").exists()


@pytest.mark.parametrize("how", ["shorter", "changed", "empty"])
def test_what_was_not_written_to_its_end_is_made_again(work, how):
    work.keep_codebook({"centroids": torch.ones(2)})
    work.keep_block(0, BLOCK)
    for file in work.folder.iterdir():
        content = file.read_bytes()
        changed = {"shorter": content[:-1], "changed": content[:-1] + b"\x07", "empty": b""}
        file.write_bytes(changed[how])
    assert work.codebook is None
    assert work.block(0, 2) is None


@pytest.mark.parametrize("at", [0, 2, 3])
def test_a_job_that_was_stopped_goes_on_without_fitting_again_and_writes_the_same(tmp_path, monkeypatch, at):
    path = write_world(tmp_path, users=4)
    experiment = opened(path)
    folder = codes_folder(experiment, Stored("item", "codes"))
    job.tokenize(experiment, ALONE)
    wanted = {file.name: file.read_bytes() for file in folder.iterdir()}
    for name in wanted:
        (folder / name).unlink()

    real, done = Work.keep_block, []

    def stopping(self, first, codes):
        if len(done) == at:
            raise Stopped
        done.append(first)
        real(self, first, codes)

    def in_blocks_of_ten(*arguments):
        of, content, every, places, codebook, work, runtime = arguments
        starts = range(0, len(places), 10)
        parts = [
            real_codes(of, content, every, places[start : start + 10], codebook, Part(work, start), runtime)
            for start in starts
        ]
        return np.concatenate(parts)

    class Part:
        """A job's work, in smaller blocks than those of 4,096 items."""

        def __init__(self, work: Work, start: int):
            self.work, self.start, self.folder = work, start, work.folder

        def block(self, first, levels):
            return self.work.block(self.start + first, levels)

        def keep_block(self, first, codes):
            self.work.keep_block(self.start + first, codes)

    real_codes = job._codes_of
    monkeypatch.setattr(job, "_codes_of", in_blocks_of_ten)
    monkeypatch.setattr(Work, "keep_block", stopping)
    with pytest.raises(Stopped):
        job.tokenize(experiment, ALONE)
    assert not (folder / "manifest.json").exists()
    monkeypatch.setattr(Work, "keep_block", lambda self, first, codes: (again.append(first), real(self, first, codes)))
    monkeypatch.setattr(RqKmeans, "fit", lambda *_: pytest.fail("it was fitted before"))
    again: list[int] = []
    job.tokenize(experiment, ALONE)
    assert again == [0, 10, 20, 30][at:]
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == wanted
