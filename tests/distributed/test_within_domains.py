"""A run that tells the next item from those of the row's own domain, in training and when it is measured."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from foundrank import load
from foundrank.data.config.load import load_experiment
from foundrank.data.errors import UserError
from foundrank.dist.compare.arms import prepare_comparison
from foundrank.dist.compare.compare import compare
from foundrank.dist.evaluate.evaluate import evaluate_run
from foundrank.dist.evaluate.prediction_file import alike, predictions_file, read_told
from foundrank.dist.evaluate.prepare import prepare_evaluation
from foundrank.dist.ranks.runtime import Runtime
from foundrank.dist.retrieval.candidates import allowed_items, train_within_domains
from foundrank.dist.retrieval.protocol import Protocol, told_in_words
from foundrank.dist.retrieval.retrieval import draw_candidates
from foundrank.dist.run.run_documents import Validation
from foundrank.dist.run.run_folder import METRICS, VALIDATION, read_json, read_metrics
from foundrank.model.kinds import KINDS

from .harness import run_ranks
from .rank_work import make_encoder, train_run

RAW = """
name: within
entities:
  user: {id: user, history: {column: history}}
  item: {id: item, catalog: {path: items.parquet, key: item}, features: {kind: {kind: categorical}}}
domains:
  home: {kind: recommendation, events: {train: home.parquet, validation: home.parquet, test: home.test.parquet}}
  feed: {kind: recommendation, events: {train: feed.parquet, validation: feed.parquet, test: feed.test.parquet}}
model:
  width: 8
  embedding_dim: 8
  history: {encoder: sasrec, layers: 1, heads: 1, features: [kind]}
  next_item: {loss: softmax, candidates: domain}
training: {batch_size: 32, epochs: 1, log_every: 1}
"""
OF = {"home": range(8), "feed": range(5, 20)}  # items of the domains' events; three are of both
ITEMS = 30


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The experiment, a run of it on two ranks, and one whose candidates are all items."""
    folder, random = tmp_path_factory.mktemp("within"), np.random.default_rng(0)
    for domain, items in OF.items():
        past = [[int(i) for i in random.integers(0, 20, 3)] for _ in range(90)]
        own = [*items, *random.choice(list(items), 90 - len(items))]
        table = {"user": random.integers(0, 9, 90), "item": own, "history": pa.array(past, pa.list_(pa.int64()))}
        for part in ("", ".test"):
            pq.write_table(pa.table(table), folder / f"{domain}{part}.parquet", row_group_size=13)
    pq.write_table(pa.table({"item": np.arange(ITEMS), "kind": np.arange(ITEMS) % 3}), folder / "items.parquet")
    (folder / "experiment.yaml").write_text(RAW)
    run_ranks(train_run, 2, load_experiment(folder, kinds=KINDS), folder / "run")
    among_all = load_experiment(folder, ["model.next_item.candidates=all"], kinds=KINDS)
    run_ranks(train_run, 1, among_all, folder / "among_all")
    return folder


def allowed(runtime: Runtime, folder: Path) -> list[list[bool]]:
    encoder = make_encoder(load_experiment(folder, kinds=KINDS))
    files = {name: of["train"] for name, of in prepare_evaluation(folder / "run", "test").events.items()}
    found = allowed_items(Protocol(), encoder, files, runtime)
    assert found is not None
    assert allowed_items(Protocol(domain="feed"), encoder, files, runtime).tolist() == [found[1].tolist()] * 2  # type: ignore[union-attr]
    keys = encoder.items(trained=False).keys.tolist()
    return [sorted(keys[at] for at in there.nonzero()[:, 0].tolist()) for there in found]


def measured(runtime: Runtime, run: Path, protocol: Protocol) -> dict:
    return evaluate_run(runtime.on_main(lambda: prepare_evaluation(run, "test", protocol=protocol)), runtime)


def of_domain(found: dict, domain: str) -> dict:
    return next(row for row in found["next_item"] if (row["domain"], row["slice"]) == (domain, "all"))


def test_the_items_of_a_domain_are_those_of_its_training_events_on_any_ranks(folder):
    for ranks in (1, 2):
        for found in run_ranks(allowed, ranks, folder):
            assert found == [list(of) for of in OF.values()]


def test_nothing_is_drawn_for_a_domain_without_users(folder):
    found = []
    for users in ("true", "false"):
        changes = ["model.next_item={negatives: 32}", f"domains.feed.users={users}"]
        encoder = make_encoder(load_experiment(folder, changes, kinds=KINDS))
        train_within_domains(encoder, torch.ones(2, len(encoder.items(trained=False)), dtype=torch.bool))
        items = draw_candidates(encoder, 0)(0)(0)
        assert items.of_domain is not None
        found.append(items.of_domain.mean(0).tolist())
    assert found == [[0.5, 0.5], [1, 0]]


@pytest.mark.parametrize("negatives", [0, 4])
def test_rows_rank_among_the_items_of_their_own_domain_on_any_ranks(folder, negatives):
    protocol = Protocol(negatives=negatives)
    one, two = (run_ranks(measured, ranks, folder / "run", protocol)[0] for ranks in (1, 2))
    assert one["next_item"] == two["next_item"]
    assert one["protocol"]["within_domains"]
    assert "of each row's own domain" in told_in_words(one["protocol"])
    for domain, items in OF.items():
        assert of_domain(one, domain)["items"] == (negatives + 1 if negatives else len(items))
        alone = run_ranks(measured, 1, folder / "run", Protocol(negatives=negatives, domain=domain))[0]
        assert of_domain(alone, domain) == of_domain(one, domain)
    assert of_domain(run_ranks(measured, 1, folder / "among_all", Protocol())[0], "home")["items"] == ITEMS


def test_an_item_ranks_where_recommendations_of_its_domain_have_it(folder):
    found = run_ranks(measured, 1, folder / "run", Protocol(repeat=True))[0]
    scorer = load(folder / "run")
    for domain in OF:
        rows = pq.read_table(folder / f"{domain}.parquet")
        best = scorer.recommend(rows, k=5, repeat=True, domain=domain)["items"].to_pylist()
        hits = [item in of_row for item, of_row in zip(rows["item"].to_pylist(), best, strict=True)]
        assert of_domain(found, domain)["hr@5"] == pytest.approx(np.mean(hits))
        assert 0 < np.mean(hits) < 1


def test_training_tells_the_next_item_from_fewer_than_all(folder):
    first = [read_metrics(folder / run / METRICS)[0][0]["next_item"] for run in ("run", "among_all")]
    assert first[0] < first[1] - 0.2  # ln 8 or ln 15, and ln 20, of items that nothing is known of yet


def test_validation_ranks_among_them_too(folder):
    rows = read_json(folder / "run" / VALIDATION, Validation)["next_item"]
    assert {row["domain"]: row["items"] for row in rows if row["slice"] == "all"} == {
        name: len(items) for name, items in OF.items()
    }


def test_what_a_run_cannot_tell_is_refused(folder, tmp_path):
    users = pa.table({"user": [1], "history": pa.array([[1, 2]])})
    scorer = load(folder / "run")
    with pytest.raises(UserError, match=r"--domain: is not given.*Name one of: home, feed"):
        scorer.recommend(users)
    assert set(scorer.recommend(users, domain="home", repeat=True)["items"].to_pylist()[0]) == set(OF["home"])
    with pytest.raises(UserError, match=r"own domain.*--domain"):
        prepare_comparison([str(folder / "among_all"), str(folder / "run")], "test", 100, 0)
    same = prepare_comparison([str(folder / "among_all"), str(folder / "run")], "test", 100, 0, Protocol(domain="home"))
    assert len(same.runs) == 2
    shutil.copytree(folder / "among_all", again := tmp_path / "again")
    text = (again / "experiment.yaml").read_text()
    (again / "experiment.yaml").write_text(text.replace("repeat: false", "repeat: true"))
    with pytest.raises(UserError, match=r"Say --domain NAME, and --repeat or --no-repeat, for all"):
        prepare_comparison([str(again), str(folder / "run")], "test", 100, 0)


def compared(runtime: Runtime, runs: list[Path], protocol: Protocol) -> dict:
    return compare(runtime.on_main(lambda: prepare_comparison(list(map(str, runs)), "test", 20, 0, protocol)), runtime)


def told_by(run: Path) -> dict:
    told = read_told(predictions_file(run, "test"))
    assert told is not None
    return told


@pytest.mark.parametrize("negatives", [0, 4])
def test_runs_are_compared_in_the_domains_that_all_have_whatever_their_order(folder, tmp_path, negatives):
    other, protocol = tmp_path / "other", Protocol(negatives=negatives)
    home, feed = (line for line in RAW.splitlines() if "kind: recommendation" in line)
    more = home.replace("home:", "more:").replace("home.parquet", "feed.parquet")
    (folder / "other.yaml").write_text(RAW.replace(f"{home}\n{feed}", f"{more}\n{feed}\n{home}"))
    run_ranks(train_run, 1, load_experiment(folder / "other.yaml", kinds=KINDS), other)
    found = run_ranks(compared, 1, [folder / "run", other], protocol)[0]
    assert {row["domain"] for row in found["rows"]} == {"home", "feed", "mean"}
    assert {name: of["items"] for name, of in told_by(folder / "run")["candidates"].items()} == {
        name: negatives + 1 if negatives else len(items) for name, items in OF.items()
    }
    assert list(told_by(other)["candidates"]) == ["more", "feed", "home"]


def test_a_domain_of_other_items_is_left_out_of_a_comparison(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "mine")
    runs = [folder / "run", tmp_path / "mine/run"]
    run_ranks(compared, 1, runs, Protocol())
    before = told_by(runs[1])
    # What predictions of an earlier version say of their items is not taken for what is said today.
    assert not alike(before | {"among": {"items": 20, "digest": "0" * 64}}, before)
    feed = tmp_path / "mine/feed.parquet"
    rows = pq.read_table(feed)
    new = pa.table({"user": [1], "item": [25], "history": pa.array([[1]], pa.list_(pa.int64()))})
    pq.write_table(pa.concat_tables([rows, new.cast(rows.schema)]), feed)
    shutil.rmtree(runs[1])
    run_ranks(train_run, 1, load_experiment(tmp_path / "mine", kinds=KINDS), runs[1])
    found = run_ranks(compared, 1, runs, Protocol())[0]
    assert {row["domain"] for row in found["rows"]} == {"home"}
    assert told_by(runs[1])["candidates"]["home"] == before["candidates"]["home"]
    of_home = Protocol(domain="home")
    run_ranks(compared, 1, runs, of_home)
    assert not prepare_comparison(list(map(str, runs)), "test", 20, 0, of_home).todo
    home = tmp_path / "mine/home.parquet"
    pq.write_table(pq.read_table(home).slice(1), home)
    assert len(prepare_comparison(list(map(str, runs)), "test", 20, 0, of_home).todo) == 1
