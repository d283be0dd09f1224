"""Semantic ids: the real commands, from a catalog with vectors to recommendations by codes."""

import json
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import foundrank as foundrank_library
from foundrank.data.errors import UserError
from tests.coded_world import ITEMS, RQ, catalog, raw_experiment, write_world

from .commands import COMMAND, ENVIRONMENT, Here, foundrank, without_temporaries
from .test_bad_input import check_told

BEAM = "model.next_item={target: codes, decoder: {kind: autoregressive, heads: 1, beam: 3}}"
LEARNING = "training.learning_rate=0.02; training.epochs=10; training.batch_size=64"
SOURCE = RQ | {"size": 8}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The experiment, whose codes two processes have made."""
    path = write_world(tmp_path_factory.mktemp("tokenize") / "data", raw_experiment(SOURCE), users=200, group=97)
    told = foundrank("tokenize", path, "-p", 2, "--export", path.parent / "exported.parquet")
    assert "40 items, 40 of them new" in told.stderr
    assert f"next: foundrank train {path}" in told.stdout + told.stderr
    return path


@pytest.fixture(scope="module")
def runs(world: Path) -> dict[str, Path]:
    """A run that scores all items, and one that follows a beam."""
    found = {}
    for name, change in (("parallel", "model.next_item={target: codes}"), ("beam", BEAM)):
        found[name] = world.parent / name
        foundrank("train", world, "--run-dir", found[name], "-p", 2, "--set", LEARNING, "--set", change)
    return found


def copied(world: Path, folder: Path, store: bool = False) -> Path:
    """The world without its runs, and without its codes unless ``store``."""
    shutil.copytree(
        world.parent, folder, ignore=shutil.ignore_patterns("parallel", "beam", *([] if store else ["store"]))
    )
    return folder / world.name


def files_of(path: Path) -> dict[str, bytes]:
    folder = path.parent / "store/item_codes"
    return {name: (folder / name).read_bytes() for name in without_temporaries(folder)}


def codes_in(table: Path) -> dict[int, list[int]]:
    rows = pq.read_table(table).to_pylist()
    return {row["key"]: row["codes"] for row in rows}


def test_one_process_writes_what_two_write_and_again_nothing_is_new(world, tmp_path, here: Here):
    mine = copied(world, tmp_path / "one")
    assert here("tokenize", mine, "-p", 1)[0] == 0
    codes = {name: of for name, of in files_of(world).items() if name != "manifest.json"}  # which names the catalog
    assert {name: of for name, of in files_of(mine).items() if name != "manifest.json"} == codes
    before = {path: path.stat().st_mtime_ns for path in (mine.parent / "store/item_codes").iterdir()}
    status, told = here("tokenize", mine, "-p", 1)
    assert status == 0
    assert "40 items, 0 of them new" in told
    assert {path: path.stat().st_mtime_ns for path in (mine.parent / "store/item_codes").iterdir()} == before


def test_python_writes_the_same(world, tmp_path):
    mine = copied(world, tmp_path / "python")
    foundrank_library.tokenize(mine)
    found = files_of(mine)
    assert {name: found[name] for name in found if name != "manifest.json"} == {
        name: of for name, of in files_of(world).items() if name != "manifest.json"
    }


def test_a_killed_job_is_finished_to_the_same_bytes(world, tmp_path):
    mine = copied(world, tmp_path / "killed")
    process = subprocess.Popen([*COMMAND, "tokenize", str(mine), "-p", "1"], env=ENVIRONMENT, stderr=subprocess.DEVNULL)
    work, end = mine.parent / "store/item_codes", time.time() + 60
    while not work.exists() and process.poll() is None and time.time() < end:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    foundrank("tokenize", mine, "-p", 2)
    found, wanted = files_of(mine), files_of(world)
    assert found.keys() == wanted.keys()
    assert all(found[name] == wanted[name] for name in wanted.keys() - {"manifest.json"})


def test_new_items_get_codes_and_the_others_keep_theirs_and_a_run_goes_on(world, runs, tmp_path, here: Here):
    mine = copied(world, tmp_path / "more", store=True)
    run = tmp_path / "run"
    shutil.copytree(runs["parallel"], run)
    text = (run / "experiment.yaml").read_text()
    (run / "experiment.yaml").write_text(text.replace(str(world.parent), str(mine.parent)))
    users = mine.parent / "home.test.parquet"
    pq.write_table(catalog(range(ITEMS + 2)), mine.parent / "items.parquet")
    check_told(here("recommend", run, users, tmp_path / "out", "-k", 5), ["has changed since its items were tokenized"])
    out = mine.parent / "again.parquet"
    status, told = here("tokenize", mine, "--export", out, "-p", 1)
    assert status == 0
    assert "42 items, 2 of them new" in told
    before, after = codes_in(world.parent / "exported.parquet"), codes_in(out)
    assert after.keys() == set(range(ITEMS + 2))
    assert {item: after[item] for item in before} == before
    assert len({tuple(of) for of in after.values()}) == ITEMS + 2
    assert here("recommend", run, users, tmp_path / "out", "-k", 42, "--repeat")[0] == 0
    assert {len(set(row)) for row in pq.read_table(tmp_path / "out")["items"].to_pylist()} == {42}
    # Made anew, they are others: the codebook has seen the new items.
    check_told(
        here("tokenize", mine, "--set", "entities.item.contents.codes.codes.seed=5"),
        ["seed: 2026 there, 5 here", "--rebuild"],
    )
    assert here("tokenize", mine, "--rebuild", "-p", 1)[0] == 0
    check_told(here("evaluate", run, "-p", 1), ["made anew since the run was trained"])


def test_exported_codes_come_in_again(world, tmp_path, here: Here):
    mine = copied(world, tmp_path / "given")
    given = "entities.item.contents.codes.codes={method: given, path: exported.parquet, sizes_of_levels: [8, 8, 256]}"
    status, told = here("tokenize", mine, "--set", given, "--export", tmp_path / "again.parquet", "-p", 1)
    assert status == 0
    assert "no two alike" in told
    assert codes_in(tmp_path / "again.parquet") == codes_in(world.parent / "exported.parquet")
    few = given.replace("[8, 8, 256]", "[4, 8, 256]")
    check_told(
        here("tokenize", mine, "--set", few, "--rebuild"), ["exported.parquet", "outside its level (4, 8, 256 values)"]
    )


@pytest.mark.parametrize("name", ["parallel", "beam"])
def test_users_get_as_many_items_as_they_are_to_have(world, runs, tmp_path, here: Here, name):
    users = world.parent / "home.test.parquet"
    assert here("recommend", runs[name], users, tmp_path / "out", "-k", 10)[0] == 0
    past = pq.read_table(users).to_pylist()
    found = pq.read_table(tmp_path / "out").to_pylist()
    assert len(found) == len(past)
    hits = 0
    for row, given in zip(found, past, strict=True):
        assert len(set(row["items"])) == 10
        assert set(row["items"]) <= set(range(ITEMS)) - set(given["history"])
        assert row["scores"] == sorted(row["scores"], reverse=True)
        hits += given["item"] in row["items"][:5]
    assert hits > 0.5 * len(found)
    assert here("recommend", runs[name], users, tmp_path / "feed", "-k", 50, "--domain", "feed", "--repeat")[0] == 0
    of_feed = set(pq.read_table(world.parent / "feed.train.parquet")["item"].to_pylist())
    assert all(set(row) == of_feed for row in pq.read_table(tmp_path / "feed")["items"].to_pylist())


@pytest.mark.parametrize("name", ["parallel", "beam"])
def test_among_named_items_alone(world, runs, tmp_path, here: Here, name):
    users, listed = world.parent / "home.test.parquet", [3, 11, 12, 38, ITEMS + 5]
    pq.write_table(pa.table({"item": listed}), tmp_path / "items.parquet")
    asked = ("-k", 10, "--repeat", "--items", tmp_path / "items.parquet")
    assert here("recommend", runs[name], users, tmp_path / "out", *asked)[0] == 0
    found = pq.read_table(tmp_path / "out")["items"].to_pylist()
    assert all(set(row) == set(listed[:4]) for row in found)
    scorer = foundrank_library.load(runs[name])
    again = scorer.recommend(pq.read_table(users).slice(0, 5), 10, repeat=True, items=listed)["items"].to_pylist()
    assert again == found[:5]
    with pytest.raises(UserError, match="holds integer ids"):
        scorer.recommend(pq.read_table(users), 10, items=["a"])
    pq.write_table(pa.table({"item": [ITEMS + 5]}), tmp_path / "others.parquet")
    told = here("recommend", runs[name], users, tmp_path / "none", "--items", tmp_path / "others.parquet")
    check_told(told, ["items", "none of which"])


def test_a_run_as_it_is_on_other_data(world, runs, tmp_path, here: Here):
    changes = ("--set", "model.next_item={target: codes}", "--set", f"init_from={runs['parallel']}; training.epochs=0")
    assert here("train", world, "--run-dir", tmp_path / "same", *changes)[0] == 0
    for run in (runs["parallel"], tmp_path / "same"):
        assert here("evaluate", run)[0] == 0
    one, other = (
        json.loads((run / "evaluation.json").read_text())["next_item"] for run in (runs["parallel"], tmp_path / "same")
    )
    assert [row["ndcg@10"] for row in one if row["slice"] == "all"] == [
        row["ndcg@10"] for row in other if row["slice"] == "all"
    ]
    check_told(here("train", world, "--set", "training.epochs=0"), ["training.epochs", "no run to begin with"])


@pytest.mark.parametrize("name", ["parallel", "beam"])
def test_pairs_are_scored_as_recommended(world, runs, tmp_path, here: Here, name):
    users = pq.read_table(world.parent / "home.test.parquet").slice(0, 12)
    pq.write_table(users, tmp_path / "users.parquet")
    assert (
        here(
            "recommend",
            runs[name],
            tmp_path / "users.parquet",
            tmp_path / "all",
            "-k",
            ITEMS,
            "--repeat",
            "--domain",
            "home",
        )[0]
        == 0
    )
    wanted = [
        dict(zip(row["items"], row["scores"], strict=True)) for row in pq.read_table(tmp_path / "all").to_pylist()
    ]
    pairs = users.take([user for user in range(12) for _ in range(ITEMS + 1)]).drop_columns("item")
    pairs = pairs.append_column("item", pa.array([*range(ITEMS + 1)] * 12, pa.int64()))
    pq.write_table(pairs, tmp_path / "pairs.parquet")
    assert here("score", runs[name], tmp_path / "pairs.parquet", tmp_path / "out", "--domain", "home", "-p", 1)[0] == 0
    found = np.array(pq.read_table(tmp_path / "out")["score_next_item"].to_pylist(), float).reshape(12, -1)
    assert np.isnan(found[:, ITEMS]).all()  # an item that nobody has tokenized
    for of_user, scores in zip(wanted, found, strict=True):
        assert len(of_user) == ITEMS
        assert [scores[item] for item in of_user] == pytest.approx(list(of_user.values()), rel=1e-4, abs=1e-4)


def test_a_run_is_measured_and_told(world, runs, here: Here):
    for name in ("parallel", "beam"):
        done = foundrank("evaluate", runs[name], "-p", 2)
        assert f"next item, of {ITEMS}" in done.stdout
    check_told(
        here("recommend", runs["parallel"], world.parent / "home.test.parquet", world.parent / "no", "--approximate"),
        ["--approximate", "finds items by their codes"],
    )


def test_mistakes_are_told_before_work_starts(world, tmp_path, here: Here):
    mine = copied(world, tmp_path / "none")
    check_told(here("train", mine, "--run-dir", tmp_path / "run"), ["no codes here", "foundrank tokenize"])
    assert not (tmp_path / "run").exists()
    check_told(
        here(
            "tokenize",
            mine,
            "--set",
            "entities.item.contents={look: {vector: look, size: 6}}",
            "--set",
            "model.next_item={}",
        ),
        ["has no codes"],
    )
    check_told(
        here("tokenize", mine, "--set", "entities.item.contents.codes.codes={method: rq_kmean}"),
        ["Did you mean 'rq_kmeans'?"],
    )
    check_told(
        here("tokenize", mine, "--set", "entities.item.contents.codes.codes={method: columns, columns: [knd]}"),
        ["Did you mean 'kind'"],
    )
    check_told(here("tokenize", mine, "--set", "entities.item.text='{maker}'"), ["foundrank embed"])
    assert not (mine.parent / "store/item_codes/manifest.json").exists()
    status, told = here("tokenize", mine, "--check")
    assert status == 0, told
    assert not (mine.parent / "store/item_codes/manifest.json").exists()
    check_told(here("tokenize", mine, "--check", "--set", "entities.item.text='{maker}'"), ["foundrank embed"])
