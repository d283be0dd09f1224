"""Counting as a job of its own, and the training that takes what it has counted."""

import json
from pathlib import Path

import duckdb
import pyarrow.parquet as pq

from .commands import foundrank, settings, without_temporaries

EXAMPLE = Path(__file__).parents[2] / "examples" / "count_with_duckdb.sql"


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


def test_what_duckdb_has_counted_a_training_takes(world, tmp_path, monkeypatch):
    """As the example says; and what is kept of these tables is that of foundrank's own counting."""
    monkeypatch.chdir(tmp_path)
    Path("events").symlink_to(world / "events")
    Path("tables").mkdir()
    duckdb.connect().execute(EXAMPLE.read_text())
    without_texts = settings("text.vectors=none", "model.rates=true", "training.max_steps=2")
    foundrank("count", world, "own", *without_texts)
    assert "checks passed" in foundrank("count", world, "counts", "--from", "tables", "--check", *without_texts).stdout
    done = foundrank("count", world, "counts", "--from", "tables", *without_texts)
    (own,), (found,) = (Path(folder).glob("*/vocabulary") for folder in ("own", "counts"))
    assert f"all counts, as Parquet tables: {found.parent / 'tables'}" in done.stdout + done.stderr
    files = without_temporaries(own)
    assert len(files) > 20
    for name in files:
        if name != "statistics.json":  # means are equal but for their last digits
            assert (own / name).read_bytes() == (found / name).read_bytes(), name
    means, others = (json.loads((folder / "statistics.json").read_text())["dense"] for folder in (own, found))
    assert means.keys() == others.keys()
    for name, (mean, deviation) in means.items():
        assert [abs(mean - others[name][0]) < 1e-9, abs(deviation - others[name][1]) < 1e-9] == [True, True], name

    again = foundrank("count", world, "counts", "--from", "tables", *without_texts)
    assert "were counted before, elsewhere" in again.stdout + again.stderr
    run = tmp_path / "run"
    done = foundrank("train", world, "--run-dir", run, "--counts", "counts", *without_texts)
    told = f"the training events were counted before, elsewhere ({tmp_path / 'tables'}): {found.parent}"
    assert told in done.stdout + done.stderr
    noted = {Path(file["file"]).name for file in json.loads((run / "run.json").read_text())["counted_elsewhere"]}
    assert noted == {path.name for path in Path("tables").iterdir()}

    # Other tables are taken in place of those before; rows that are gone are found out.
    duckdb.execute("COPY (SELECT 7 AS value, 9 AS count) TO 'tables/feature_hour.parquet'")
    foundrank("count", world, "counts", "--from", "tables", *without_texts)
    (found,) = Path("counts").glob("*/vocabulary")
    assert pq.read_table(found / "feature_hour.parquet")["count"].to_pylist() == [9]
    duckdb.execute("COPY (FROM 'tables/rows.parquet' WHERE domain <> 'shop_feed') TO 'tables/rows.parquet'")
    done = foundrank("count", world, "more", "--from", "tables", *without_texts, status=2)
    assert "domain 'shop_feed'\n  no rows were counted" in done.stderr
    assert not list(Path("more").glob("*/vocabulary"))
