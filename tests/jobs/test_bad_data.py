"""Jobs under the policy ``skip``: a world with bad rows, files and catalog rows is trained, evaluated and scored."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from foundrank.dist.run.run_folder import read_json, read_metrics

from .commands import Here, foundrank, settings

DOMAIN = "shop_feed"
FEATURE = "domains.shop_feed.features={price_shown: {kind: dense}}"
BAD = (3, 50, 200)  # rows of a file


def rewrite(path: Path, change) -> None:
    pq.write_table(change(pq.read_table(path)), path, row_group_size=300)


def with_prices(table: pa.Table) -> pa.Table:
    """A number per row, three of which are none; one more row has a label that is none."""
    prices = np.random.default_rng(0).random(table.num_rows)
    prices[list(BAD)] = np.nan
    table = table.append_column("price_shown", pa.array(prices))
    labels = table["click"].to_numpy().copy()
    labels[7] = 3
    return table.set_column(table.column_names.index("click"), "click", pa.array(labels))


@pytest.fixture(scope="module")
def spoilt(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A world where one domain has bad rows in every split and a truncated training file, and a catalog a key twice."""
    folder = Path(shutil.copytree(world, tmp_path_factory.mktemp("spoilt") / "world"))
    for path in sorted((folder / "events" / DOMAIN).glob("*/*.parquet")):
        rewrite(path, with_prices)
        if path.parent.name == "train":
            content = path.read_bytes()
            path.with_name("zz-unfinished.parquet").write_bytes(content[: len(content) // 3])
    rewrite(folder / "catalogs" / "items.parquet", lambda table: pa.concat_tables([table, table.slice(5, 1)]))
    return folder


@pytest.fixture(scope="module")
def options() -> list[str]:
    aspects = "model.aspects=[id, sparse]"
    return [
        *settings(aspects, FEATURE, "training.epochs=1", "bad_data.policy=skip", "bad_data.max_share=0.3"),
        "-p",
        "2",
    ]


@pytest.fixture(scope="module")
def trained(spoilt: Path, options: list[str]) -> tuple[Path, str]:
    run = spoilt.parent / "run"
    return run, foundrank("train", spoilt, "--run-dir", run, *options).stdout


def test_training_goes_on_without_them_and_says_so(spoilt, trained):
    run, said = trained
    (file,) = (spoilt / "events" / DOMAIN / "train").glob("part-*.parquet")
    assert f"{DOMAIN}, train: left out " in said
    assert "zz-unfinished.parquet: cannot be read as Parquet" in said
    assert said.count("zz-unfinished") == 1
    rows = sum(pq.read_metadata(path).num_rows for path in spoilt.glob("events/*/train/part-*.parquet"))
    assert f"skipped 4 bad rows of {rows:,}: {run}" in said
    places = pq.read_table(run / "vocabulary" / "skipped_rows.parquet").to_pylist()
    assert [(one["file"], one["row_group"], one["row"], one["column"]) for one in places] == [
        (str(file), 0, 3, "price_shown"),
        (str(file), 0, 50, "price_shown"),
        (str(file), 0, 200, "price_shown"),
        (str(file), 0, 7, "click"),
    ]
    lines, _ = read_metrics(run / "metrics.jsonl")
    assert sum(line["rows"] for line in lines) == rows  # bad rows are read, too
    assert np.isfinite([line["loss"] for line in lines]).all()


def test_no_metric_counts_them(spoilt, trained):
    run, _ = trained
    said = foundrank("evaluate", run).stdout
    (file,) = (spoilt / "events" / DOMAIN / "test").glob("*.parquet")
    assert "4 bad rows are in no metric" in said
    found = read_json(run / "evaluation.json")
    assert found["skipped"] == 4
    (row,) = (r for r in found["rows"] if (r["domain"], r["task"], r["slice"]) == (DOMAIN, "click", "all"))
    assert row["rows"] == pq.read_metadata(file).num_rows - 4


def test_scores_of_bad_rows_are_null_and_all_else_passes_through(spoilt, trained, tmp_path):
    run, _ = trained
    (file,) = (spoilt / "events" / DOMAIN / "test").glob("*.parquet")
    given = pq.read_table(file)
    arguments = ["score", run, file, tmp_path / "out", "--domain", DOMAIN, "--keep", "request"]
    said = foundrank(*arguments).stdout
    assert "3 of them were bad: they have no score" in said  # a label is nothing to a scoring job
    scored = pq.read_table(tmp_path / "out")
    assert np.flatnonzero(scored["score_click"].is_null().to_numpy()).tolist() == list(BAD)
    for name in ("user", "item", "request"):
        assert scored[name].to_pylist() == given[name].to_pylist()
    (tmp_path / "out" / "_SUCCESS").unlink()
    assert "3 of them were bad" in foundrank(*arguments).stdout  # what was finished before is counted as well
    said = foundrank(*arguments[:3], tmp_path / "strict", *arguments[4:], "--bad-data", "fail", status=2).stderr
    assert "column 'price_shown', row 3" in said
    assert not (tmp_path / "strict" / "_SUCCESS").exists()


def damage(path: Path, table: pa.Table) -> None:
    """Writes the rows, fifty to a row group, the second of which cannot be read."""
    pq.write_table(table, path, row_group_size=50)
    metadata, content = pq.read_metadata(path), bytearray(path.read_bytes())
    column = metadata.row_group(1).column(table.column_names.index("user"))
    content[column.dictionary_page_offset : column.data_page_offset] = b"\xff" * (
        column.data_page_offset - column.dictionary_page_offset
    )
    path.write_bytes(bytes(content))


def test_what_the_data_holds_is_told_without_what_is_damaged(spoilt, tmp_path, here: Here):
    world = Path(shutil.copytree(spoilt, tmp_path / "world"))
    (file,) = (world / "events" / DOMAIN / "test").glob("*.parquet")
    damage(file, pq.read_table(file))
    policy = ["--set", "bad_data.policy=skip", "--set", "bad_data.max_share=0.3", "--set", "model.aspects=[id, sparse]"]
    status, said = here("describe", world, "--set", FEATURE)
    assert (status, "zz-unfinished.parquet" in said) == (2, True)
    assert here("describe", world, "--set", FEATURE, *policy) == (0, "")


def test_a_damaged_part_of_the_input_is_left_out_and_counted(spoilt, trained, tmp_path):
    run, _ = trained
    (file,) = (spoilt / "events" / DOMAIN / "test").glob("*.parquet")
    damaged, table = tmp_path / "damaged.parquet", pq.read_table(file).slice(210, 250)
    damage(damaged, table)
    arguments = ["score", run, damaged, tmp_path / "out", "--domain", DOMAIN]
    assert "50 of them were bad" in foundrank(*arguments, "-p", "2").stdout
    kept = table["item"].to_pylist()
    assert pq.read_table(tmp_path / "out")["item"].to_pylist() == kept[:50] + kept[100:]


def test_too_many_stop_the_job_before_it_starts(spoilt, options, tmp_path, here: Here):
    arguments = ["train", spoilt, "--run-dir", tmp_path / "run", *options, "--set", "bad_data.max_share=0.0001"]
    status, said = here(*arguments)
    assert status == 2
    assert "zz-unfinished.parquet\n  cannot be read" in said
    assert "bad_data.max_share allows 0.01%" in said
    unfinished = spoilt / "events" / DOMAIN / "train" / "zz-unfinished.parquet"
    unfinished.rename(tmp_path / "moved")
    try:
        status, said = here(*arguments)
    finally:
        (tmp_path / "moved").rename(unfinished)
    assert status == 2
    assert f"domain '{DOMAIN}'" in said
    assert "rows are bad, the first at" in said
    assert not (tmp_path / "run").exists()


def test_a_training_does_not_go_on_with_other_events(spoilt, trained, options, here: Here):
    run, _ = trained
    path = spoilt / "events" / DOMAIN / "train" / "later.parquet"
    shutil.copyfile(next(path.parent.glob("part-*.parquet")), path)
    try:
        status, said = here("train", spoilt, "--run-dir", run, *options)
    finally:
        path.unlink()
    assert status == 2
    assert f"{path}" in said
    assert "is new since the training in" in said
