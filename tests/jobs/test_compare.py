"""Runs beside one another: the real command on runs of two seeds."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow.parquet as pq
import pytest

from foundrank.data.errors import UserError
from foundrank.dist.compare.arms import prepare_comparison
from foundrank.dist.compare.compare import compare

from .commands import Here, foundrank, settings
from .test_bad_input import check_told


@pytest.fixture(scope="module")
def arms(world: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two runs of one step, and two that learned, of seeds 1 and 2 each."""
    folder, common = tmp_path_factory.mktemp("arms"), settings("text.vectors=none")
    for name, steps in (("begun", 1), ("learned", 60)):
        for seed in (1, 2):
            more = ["--set", f"seed={seed}; training.max_steps={steps}"]
            foundrank("train", world, "--run-dir", folder / f"{name}.{seed}", *common, *more)
    return [folder / f"{name}.{seed}" for name in ("begun", "learned") for seed in (1, 2)]


def test_arms_are_compared_over_users_and_seeds(arms, tmp_path):
    begun, learned = f"begun={arms[0]},{arms[1]}", f"learned={arms[2]},{arms[3]}"
    files = ("--out", tmp_path / "c.json", "--report", tmp_path / "c.html", "--slices", "price_band")
    told = foundrank("compare", begun, learned, "--draws", 200, *files, "-p", 2).stdout
    assert "in AUC of click, in the mean over domains" in " ".join(told.split())
    document = json.loads((tmp_path / "c.json").read_text())
    assert [arm["seeds"] for arm in document["arms"]] == [[1, 2], [1, 2]]
    rows = {(r["task"], r["domain"], r["slice"], r["metric"]): r for r in document["rows"]}
    line = rows["click", "mean", "all", "logloss"]
    assert line["paired"]
    assert line["low"] < line["difference"] < min(line["high"], 0)
    foundrank("compare", arms[0], arms[2], "--draws", 200, "--out", tmp_path / "single.json")
    singles = {
        (r["task"], r["domain"], r["slice"], r["metric"]): r
        for r in json.loads((tmp_path / "single.json").read_text())["rows"]
    }
    single = singles["click", "mean", "all", "logloss"]
    assert single["verdict"] == "better"  # less of it is
    assert line["low"] < single["low"] < single["high"] < 0  # of users alone it is narrower
    slices = {name for _, _, name, _ in rows}
    assert "cold_items" in slices
    assert any(name.startswith("users_seen_") for name in slices)
    assert ("mean", "mean", "all", "logloss") in rows  # over tasks, too
    bands = [name for name in slices if name.startswith("price_band")]
    assert len(bands) > 2
    parts = [rows["click", "shop_feed", name, "logloss"]["rows"] for name in bands]
    assert sum(parts) == rows["click", "shop_feed", "all", "logloss"]["rows"]
    assert not any(domain == "events_feed" for _, domain, name, _ in rows if name in bands)
    # The numbers are those of the evaluations.
    said = foundrank("evaluate", arms[2], "--slices", "price_band").stdout
    assert all(name in said for name in bands)
    for row in json.loads((arms[2] / "evaluation.json").read_text())["rows"]:
        for metric in ("auc", "gauc", "uauc", "ndcg@10", "logloss"):
            key = row["task"], row["domain"], row["slice"], metric
            if row[metric] is not None and key in singles:
                assert singles[key]["other"] == pytest.approx(row[metric], abs=1e-6), key
    page = (tmp_path / "c.html").read_text()
    assert "learned against begun: click" in page
    # Again nothing is predicted, and the numbers are the same.
    written = (arms[0] / "predictions/test.parquet").stat().st_mtime_ns
    foundrank("compare", begun, learned, "--draws", 200, "--out", tmp_path / "again.json", *files[-2:])
    assert (arms[0] / "predictions/test.parquet").stat().st_mtime_ns == written
    assert json.loads((tmp_path / "again.json").read_text()) == document


def test_predictions_are_the_same_rows_whatever_the_ranks(arms, world, tmp_path):
    found = []
    for ranks in (1, 2):
        folder = tmp_path / f"run{ranks}"
        shutil.copytree(arms[3], folder)
        foundrank("evaluate", folder, "--predictions", "-p", ranks)
        found.append(pq.read_table(folder / "predictions/test.parquet"))
    one, two = found
    for name in one.column_names:
        if name.startswith("score/"):
            assert one[name].fill_null(-1).to_numpy() == pytest.approx(two[name].fill_null(-1).to_numpy(), abs=1e-5)
        else:
            assert one[name].equals(two[name]), name
    labels = pq.read_table(sorted((world / "events" / "shop_search" / "test").glob("*.parquet")))
    mine = one.filter(one["domain"].cast("string").to_numpy() == "shop_search")
    assert mine["label/click"].to_pylist() == labels["click"].cast("float").to_pylist()


def catalog_of(run: Path) -> tuple[str, str]:
    """A run's experiment, and its items' catalog as it stands there."""
    text = (run / "experiment.yaml").read_text()
    return text, next(word for word in text.split() if "items" in word and word.endswith(".parquet"))


def test_predictions_of_another_catalog_are_made_again(arms, tmp_path):
    mine, file = tmp_path / "mine", Path("predictions/test.parquet")
    shutil.copytree(arms[2], mine)
    foundrank("compare", arms[0], mine, "--draws", 100)
    before = pq.read_table(mine / file)
    text, catalog = catalog_of(mine)
    pq.write_table(
        pq.read_table(sorted(Path(catalog).parent.glob("*.parquet"))[0]).slice(10), tmp_path / "items.parquet"
    )
    (mine / "experiment.yaml").write_text(text.replace(catalog, str(tmp_path / "items.parquet")))
    foundrank("compare", arms[0], mine, "--draws", 100)
    assert not pq.read_table(mine / file).equals(before)
    # What another evaluation writes in the meantime is not taken for what was asked for.
    runtime: Any = SimpleNamespace(is_main=True)
    job = prepare_comparison([str(arms[0]), str(mine)], "test", 20, 0)
    assert not job.todo
    told = json.loads(pq.read_schema(mine / file).metadata[b"foundrank.predictions"])
    told["protocol"]["negatives"] = 5
    table = pq.read_table(mine / file).replace_schema_metadata({b"foundrank.predictions": json.dumps(told).encode()})
    pq.write_table(table, mine / file)
    with pytest.raises(UserError, match="has changed since"):
        compare(job, runtime)


def test_mistakes_are_told_before_work_starts(arms, world, tmp_path, here: Here):
    check_told(here("compare", arms[0]), ["needs two runs"])
    check_told(here("compare", arms[0], arms[0]), ["named twice"])
    check_told(here("compare", f"a={arms[0]}", f"a={arms[1]}"), ["second arm called 'a'"])
    check_told(here("compare", arms[0], tmp_path), ["not a run"])
    check_told(here("compare", arms[0], arms[2], "--split", "holdout"), ["no domain has a 'holdout' split"])
    check_told(here("compare", arms[0], arms[2], "--slices", "price_bend"), ["Did you mean 'price_band'"])
    check_told(here("evaluate", arms[0], "--slices", "history"), ["--slices", "'history' is list"])
    check_told(here("evaluate", arms[0], "--negatives", 5), ["was not trained to predict the next item"])
    twin = tmp_path / "twin"
    shutil.copytree(arms[0], twin)
    check_told(here("compare", f"a={arms[0]},{twin}", f"b={arms[2]}"), ["two runs with a model of seed 1"])
    text = (twin / "experiment.yaml").read_text()
    several = text.replace("seeds: 1", "seeds: 3")
    assert several != text
    (twin / "experiment.yaml").write_text(several)  # models of seeds 1, 2 and 3
    check_told(here("compare", f"a={arms[1]},{twin}", f"b={arms[2]}"), ["two runs with a model of seed 2"])
    events = next(line.split(": ", 1)[1] for line in text.splitlines() if "shop_search/test" in line)
    other = tmp_path / "other.parquet"
    pq.write_table(pq.read_table(sorted((world / "events/shop_search/test").glob("*.parquet"))).slice(1), other)
    (twin / "experiment.yaml").write_text(text.replace(events, str(other)))
    check_told(here("compare", arms[2], twin), ["shop_search", "has other files than"])
    file = arms[0] / "predictions" / "test.parquet"
    file.parent.mkdir(exist_ok=True)
    kept = file.read_bytes() if file.exists() else None
    file.write_bytes(b"PAR1 not")
    check_told(here("compare", arms[0], arms[2]), ["damaged"])
    file.unlink()
    if kept:
        file.write_bytes(kept)
