"""Counting as a job of its own, and the training that takes what it has counted."""

import pyarrow.parquet as pq

from .commands import foundrank, without_temporaries


def test_what_two_ranks_count_a_training_takes(embedded, train_arguments, run, tmp_path):
    counts, taken = tmp_path / "counts", tmp_path / "run"
    done = foundrank("count", embedded, counts, "-p", "2", *train_arguments)
    assert "training rows" in done.stdout
    assert f"next: foundrank train {embedded} --counts {counts}" in done.stdout + done.stderr
    (kept,) = (counts / name for name in without_temporaries(counts))
    done = foundrank("train", embedded, "--run-dir", taken, "--counts", counts, *train_arguments)
    assert f"the training events were counted before: {kept}" in done.stdout + done.stderr
    for path in sorted((run / "vocabulary").glob("*.parquet")):
        assert pq.read_table(kept / "vocabulary" / path.name).equals(pq.read_table(path)), path.name

    assert "checks passed" in foundrank("count", embedded, counts, "--check", *train_arguments).stdout
    file = embedded / "experiment.yaml"
    for command in (("count", embedded, file), ("train", embedded, "--run-dir", tmp_path / "none", "--counts", file)):
        assert f"error: {file}\n  is a file" in foundrank(*command, *train_arguments, status=2).stderr
    assert not (tmp_path / "none").exists()
