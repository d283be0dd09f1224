"""Codes on two ranks: as an aspect of items, and as what the next item is found by."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from foundrank import load
from foundrank.data.codes.code_store import codes_folder, open_codes
from foundrank.data.config.sections.entities import Stored
from foundrank.data.errors import UserError
from foundrank.dist.evaluate.evaluate import evaluate_run
from foundrank.dist.evaluate.prepare import prepare_evaluation
from foundrank.dist.ranks.runtime import ALONE, Runtime
from foundrank.dist.retrieval.protocol import Protocol
from foundrank.dist.run.run_folder import METRICS, read_metrics
from foundrank.dist.tokenize.tokenize import tokenize
from tests.coded_world import ITEMS, RQ, opened, raw_experiment, write_world

from .harness import run_ranks
from .rank_work import make_encoder, train_run, train_steps, whole
from .test_fine_tuning import begin, weights_of_run
from .test_sharded_equals_unsharded import RANKS, STEPS, reference

PARALLEL = "model.next_item={target: codes, decoder: parallel}"
ALONG_A_BEAM = "model.next_item={target: codes, decoder: {kind: autoregressive, heads: 1, dropout: 0, beam: 60}}"
ANY_ORDER = "model.next_item={target: codes, decoder: {kind: any_order, heads: 1, dropout: 0, beam: 60}}"
ALL = "model.next_item={target: codes, positions: all, label_smoothing: 0.1}"
NOTHING_DROPPED = ("model.id_dropout=0", "model.hide_rare_items=0")
LEARNING = ("training.learning_rate=0.02", "training.epochs=12", "training.batch_size=64")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The experiment, whose codes are made."""
    path = write_world(tmp_path_factory.mktemp("codes"), raw_experiment(RQ | {"size": 8}), users=300, group=97)
    tokenize(opened(path), ALONE)
    return path


@pytest.mark.parametrize(
    "changes",
    [
        (PARALLEL, "training.sharding=row_wise"),
        (PARALLEL.replace("decoder", "in_batch: 500, decoder"), "model.aspects=[codes]", "training.sharding=row_wise"),
        (ALONG_A_BEAM, "model.aspects=[codes]", "training.sharding=row_wise"),
        (ALL, "model.aspects=[id, codes]", "model.history={encoder: hstu, dropout: 0, heads: 1}"),
        ("model.next_item={negatives: 20}", "model.aspects=[codes, look]"),
    ],
    ids=["parallel", "parallel among items", "autoregressive without ids", "all positions", "vectors of codes"],
)
def test_training_equals_the_unsharded_reference(world, changes):
    experiment = opened(world, "training.learning_rate=0.003", *NOTHING_DROPPED, *changes)
    wanted, ranks = reference(experiment), run_ranks(train_steps, RANKS, experiment, STEPS)
    losses = [rank.losses[step] for step in range(STEPS) for rank in ranks]
    np.testing.assert_allclose(losses, wanted.losses, rtol=0, atol=5e-4)
    for name, value in ranks[0].dense.items():
        np.testing.assert_allclose(value, wanted.dense[name], rtol=0, atol=2e-3, err_msg=name)
    tables = whole([rank.tables for rank in ranks])
    for name, table in whole([wanted.tables]).items():
        np.testing.assert_allclose(tables[name], table, rtol=0, atol=2e-3, err_msg=name)
    with_ids = not any("aspects=[codes" in change for change in changes)
    assert len(tables["id_item"]) == (ITEMS + 1 if with_ids else 1)


def test_without_the_id_aspect_items_have_no_table(world):
    layout = make_encoder(opened(world, "model.aspects=[codes, look]")).layout
    assert (layout.tables["id_item"], layout.item_rows, layout.ids) == (1, ITEMS + 1, False)
    assert not [key for key in layout.keys if "past" in key]
    assert layout.codes == {"content_codes_item": (8, 8, 256)}
    layout = make_encoder(opened(world)).layout
    assert (layout.tables["id_item"], layout.item_rows, layout.ids) == (ITEMS + 1, ITEMS + 1, True)


def test_what_a_batch_looks_up_says_nothing_of_ids_where_they_have_no_tables(world):
    encoder = make_encoder(opened(world, "model.aspects=[codes]"))
    rows = pq.read_table(world.parent / "home.train.parquet").slice(0, 8)
    batch = encoder.assemble([encoder.encode("home", rows, "rows")], 8)
    assert not batch.sparse.values().any()
    codes = batch.vectors["content_codes_item"]
    own = encoder.contents["content_codes_item"]
    wanted = own.vectors[own.rows(rows["item"].to_numpy().astype(np.uint64))]
    assert codes.long().tolist() == wanted.long().tolist()


def trained(world: Path, name: str, *changes: str, ranks: int = RANKS) -> Path:
    run = world.parent / name
    if not run.exists():
        run_ranks(train_run, ranks, opened(world, *LEARNING, *changes), run)
    return run


def measured(runtime: Runtime, run: Path, protocol: Protocol) -> dict:
    return evaluate_run(runtime.on_main(lambda: prepare_evaluation(run, "test", protocol=protocol)), runtime)


def of_all(found: dict, domain: str) -> dict:
    return next(row for row in found["next_item"] if (row["domain"], row["slice"]) == (domain, "all"))


@pytest.mark.parametrize(
    ("name", "decoder"), [("parallel", PARALLEL), ("beam", ALONG_A_BEAM), ("any_order", ANY_ORDER)]
)
def test_what_comes_next_is_found_by_codes_and_measured_alike_on_any_ranks(world, name, decoder):
    run = trained(world, name, decoder)
    found = [read["next_item"] for read in read_metrics(run / METRICS)[0] if "next_item" in read]
    assert found[-1] < 0.6 * found[0]
    one, two = (run_ranks(measured, ranks, run, Protocol())[0] for ranks in (1, 2))
    assert one["next_item"] == two["next_item"]
    row = of_all(one, "home")
    assert row["items"] == ITEMS
    assert row["hr@5"] > 0.5
    assert row["hr@5"] > row["popularity_hr@5"] + 0.3
    few = run_ranks(measured, 2, run, Protocol(negatives=5))[0]
    assert of_all(few, "home")["items"] == 6
    assert of_all(few, "home")["hr@5"] >= row["hr@5"]


@pytest.mark.parametrize(
    ("name", "decoder"), [("parallel", PARALLEL), ("beam", ALONG_A_BEAM), ("any_order", ANY_ORDER)]
)
def test_an_item_ranks_where_recommendations_have_it(world, name, decoder):
    run = trained(world, name, decoder)
    found = run_ranks(measured, 1, run, Protocol(repeat=True))[0]
    rows = pq.read_table(world.parent / "home.test.parquet")
    scorer = load(run)
    best = scorer.recommend(rows, k=5, repeat=True)["items"].to_pylist()
    hits = [item in of_row for item, of_row in zip(rows["item"].to_pylist(), best, strict=True)]
    assert of_all(found, "home")["hr@5"] == pytest.approx(np.mean(hits), abs=0.01)
    assert all(len(set(of_row)) == 5 for of_row in best)


@pytest.mark.parametrize(("name", "decoder"), [("parallel", PARALLEL), ("beam", ALONG_A_BEAM)])
def test_rows_rank_among_the_items_of_a_domain(world, name, decoder):
    run = trained(world, name, decoder)
    one, two = (run_ranks(measured, ranks, run, Protocol(domain="feed"))[0] for ranks in (1, 2))
    assert one["next_item"] == two["next_item"]
    assert of_all(one, "feed")["items"] == ITEMS // 2
    every = run_ranks(measured, 1, run, Protocol())[0]
    assert of_all(one, "feed")["hr@5"] >= of_all(every, "feed")["hr@5"]
    with pytest.raises(UserError, match=r"candidates: domain has no part in predicting codes"):
        opened(world, decoder.replace("target: codes", "target: codes, candidates: domain"))


OWN, OF_ASPECT = (
    "dense.history.objective.decoder.codes",
    "dense.represent.encoder.text_projections.item_codes.embeddings.weight",
)
WITHOUT = "model.aspects=[id, sparse, look]"


@pytest.mark.parametrize("first", [(), (WITHOUT,)], ids=["of the aspect", "of the decoder"])
def test_embeddings_of_codes_are_kept_where_the_codes_are_an_aspect_in_one_model_alone(world, first):
    run = trained(world, "own" if first else "parallel", PARALLEL, *first)
    then = () if first else (WITHOUT,)
    _, (_, dense), _ = run_ranks(begin, 1, opened(world, PARALLEL, *then, f"init_from={run}"))[0]
    _, learned = run_ranks(weights_of_run, 1, run)[0]
    before, after = (OWN, OF_ASPECT) if first else (OF_ASPECT, OWN)
    assert before in learned
    assert after not in learned
    np.testing.assert_array_equal(dense[after], learned[before])


def test_a_run_whose_weights_have_no_place_is_refused(world, tmp_path):
    run = shutil.copytree(trained(world, "own", PARALLEL, WITHOUT), tmp_path / "old")
    written = yaml.safe_load((run / "experiment.yaml").read_text())
    # As a decoder had embeddings of its own beside an aspect's once.
    written["model"]["aspects"] = ["id", "sparse", "codes", "look"]
    (run / "experiment.yaml").write_text(yaml.safe_dump(written))
    with pytest.raises(UserError, match=r"has no place for .history\.objective\.decoder\.codes"):
        load(run)


def test_codes_that_are_missing_or_others_are_told_before_a_training(world, tmp_path):
    path = write_world(tmp_path / "none", users=4)
    with pytest.raises(UserError, match=r"item_codes: no codes here.*foundrank tokenize"):
        make_encoder(opened(path))
    with pytest.raises(UserError, match=r"size: 8 there, 16 here"):
        make_encoder(opened(world, "entities.item.contents.codes.codes.size=16"))


def test_a_run_refuses_codes_that_were_made_anew(world, tmp_path):
    mine = tmp_path / "mine"
    shutil.copytree(world.parent, mine)
    path = mine / "experiment.yaml"
    shutil.rmtree(mine / "store")
    tokenize(opened(path), ALONE)
    run = tmp_path / "run"
    run_ranks(train_run, 1, opened(path), run)
    run_ranks(measured, 1, run, Protocol())
    folder = codes_folder(opened(path), Stored("item", "codes"))
    raw = raw_experiment(RQ | {"size": 8, "iterations": 1})
    other = write_world(tmp_path / "other", raw, users=4)
    tokenize(opened(other), ALONE)
    manifest = (tmp_path / "other/store/item_codes/manifest.json").read_text()
    shutil.rmtree(folder)
    shutil.copytree(tmp_path / "other/store/item_codes", folder)
    (folder / "manifest.json").write_text(manifest.replace('"iterations": 1', '"iterations": 5'))
    with pytest.raises(UserError, match=r"made anew since the run was trained|has changed since"):
        load(run)


def tokenized(runtime: Runtime, path: Path, *changes: str) -> list[list[int]]:
    experiment = opened(path, *changes)
    tokenize(experiment, runtime)
    found, _ = open_codes(codes_folder(experiment, Stored("item", "codes")))
    return found.mapped().vectors.tolist()


def refused(runtime: Runtime, path: Path, *changes: str) -> str:
    with pytest.raises(UserError) as told:
        tokenized(runtime, path, *changes)
    return str(told.value)


def test_codes_of_what_a_run_has_learnt_are_the_same_on_any_ranks(world, tmp_path):
    run = trained(world, "vectors", "model.next_item={negatives: 20}", "model.aspects=[id]")
    found = []
    for ranks in (1, 2):
        path = write_world(tmp_path / str(ranks), users=4)
        change = f"entities.item.contents.codes.codes={{method: rq_kmeans, levels: 2, size: 8, run: {run}}}"
        found += run_ranks(tokenized, ranks, path, change)
    assert found[0] == found[1] == found[2]
    alone = write_world(tmp_path / "alone", users=4)
    without = "entities.item.contents.codes.codes={method: rq_kmeans, levels: 2, size: 8}"
    assert run_ranks(tokenized, 1, alone, without)[0] != found[0]
    by_codes = trained(world, "parallel", PARALLEL)
    (said,) = run_ranks(refused, 1, alone, f"{without[:-1]}, run: {by_codes}}}", "text.store=other")
    assert "parallel: does not find items by their vectors" in said


@pytest.mark.parametrize(
    "method", ["{method: tree, levels: 2, size: 3, dimension: 4}", "{method: parallel, levels: 3, size: 4}"]
)
def test_codes_are_the_same_on_any_ranks(tmp_path, method):
    found = []
    for ranks in (1, 2):
        path = write_world(tmp_path / str(ranks))
        found += run_ranks(tokenized, ranks, path, f"entities.item.contents.codes.codes={method}")
    assert found[0] == found[1] == found[2]
