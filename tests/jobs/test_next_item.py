"""Users as sequences: the real commands on users who go round a circle of items."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch.distributed.checkpoint import state_dict_loader
from torch.distributed.checkpoint.filesystem import FileSystemReader

from foundrank import load
from foundrank.data.counting.statistics import Statistics
from foundrank.dist.run.kept_checkpoints import best
from tests.importer_sources import amazon_beauty_source

from .commands import Here, foundrank, without_temporaries
from .test_bad_input import check_told

SMALL = (
    "text.vectors=none; model.embedding_dim=16; model.width=16; model.history.heads=1; model.history.dropout=0; "
    "training.epochs=25; training.batch_size=32; training.learning_rate=0.02; training.sparse_learning_rate=0.2"
)


@pytest.fixture(scope="module")
def circle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The imported experiment."""
    folder = tmp_path_factory.mktemp("circle")
    source = amazon_beauty_source(folder / "source", users=300)
    told = foundrank("import", "amazon-beauty", source, folder / "data").stdout
    assert "next: foundrank embed" in told
    return folder / "data"


@pytest.fixture(scope="module")
def run(circle: Path) -> Path:
    """A run that has learned what comes next, on two ranks."""
    run = circle.parent / "run"
    done = foundrank("train", circle, "--run-dir", run, "-p", 2, "--set", SMALL)
    assert "validation NDCG@10 0." in done.stderr
    return run


def weights_of(run: Path) -> dict[str, torch.Tensor]:
    """All weights of a run's best checkpoint, by name."""
    checkpoint = best(run)
    saved = FileSystemReader(checkpoint).read_metadata().state_dict_metadata
    tensors = {name: torch.empty(of.size) for name, of in saved.items() if name.startswith("model.")}
    state_dict_loader.load(tensors, checkpoint_id=checkpoint)
    return tensors


def test_what_comes_next_is_learned_and_measured_among_all_items(run):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["next_item"] < 0.5 * lines[0]["next_item"]
    told = foundrank("evaluate", run, "-p", 2).stdout
    assert "next item, of 21" in told
    (row,) = [row for row in json.loads((run / "evaluation.json").read_text())["next_item"] if row["slice"] == "all"]
    # One item follows each, and past ones are left out: a model that learned finds it first, popularity by chance.
    assert row["rows"] == 300
    assert row["hr@5"] > 0.95
    assert row["mrr@10"] > 0.9
    assert row["popularity_hr@5"] < 0.6


def test_past_items_compete_where_they_may_come_again(run, circle, here: Here):
    again = circle.parent / "again"
    shutil.copytree(run, again)
    file = again / "experiment.yaml"
    assert "repeat: false" in file.read_text()
    file.write_text(file.read_text().replace("repeat: false", "repeat: true"))
    found = []
    for folder in (run, again):
        status, _ = here("evaluate", folder, "-p", 1)
        assert status == 0
        rows = json.loads((folder / "evaluation.json").read_text())["next_item"]
        found.append(next(row for row in rows if row["slice"] == "all"))
    assert found[1]["popularity_mrr@20"] < found[0]["popularity_mrr@20"]
    assert found[1]["mrr@20"] <= found[0]["mrr@20"]


def found_by(here: Here, run: Path, *options: object) -> tuple[dict, dict]:
    """The protocol and the line of all rows that ``evaluate`` with options writes."""
    status, _ = here("evaluate", run, *options)
    assert status == 0
    document = json.loads((run / "evaluation.json").read_text())
    return document["protocol"], next(row for row in document["next_item"] if row["slice"] == "all")


def test_a_sample_of_items_is_the_same_on_any_ranks_and_easier_than_all(run, circle, here: Here):
    mine = circle.parent / "sampled"
    shutil.copytree(run, mine)
    _, of_all = found_by(here, mine, "-p", 1)
    told, one = found_by(here, mine, "--negatives", 5, "-p", 1)
    _, two = found_by(here, mine, "--negatives", 5, "-p", 2)
    assert told == {"repeat": False, "negatives": 5, "domain": None}
    assert one == two
    assert one["items"] == 6
    assert one["popularity_mrr@10"] > of_all["popularity_mrr@10"]
    # With all that can be drawn the numbers are those of all items, but for item 21, which is never drawn: nothing is known of it.
    _, every = found_by(here, mine, "--negatives", 1000, "-p", 1)
    assert {key: every[key] for key in every if key != "items"} == {key: of_all[key] for key in every if key != "items"}
    said = foundrank("evaluate", mine, "--negatives", 5, "--repeat").stdout
    assert "5 items drawn at random and its own, past ones included" in said
    assert "5 items drawn at random and its own, past ones included" in (mine / "report.html").read_text()


def test_runs_that_rank_among_other_items_are_not_compared(run, circle, tmp_path, here: Here):
    mine, other = tmp_path / "mine", tmp_path / "other"
    for folder in (mine, other):
        shutil.copytree(run, folder)
    text = (other / "experiment.yaml").read_text()
    catalog = next(word for word in text.split() if "items" in word and word.endswith(".parquet"))
    kept = pq.read_table(catalog)
    more = pa.concat_tables([kept, kept.slice(0, 1).set_column(0, kept.field(0), pa.array([999], kept.field(0).type))])
    pq.write_table(more, tmp_path / "items.parquet")
    (other / "experiment.yaml").write_text(text.replace(catalog, str(tmp_path / "items.parquet")))
    check_told(here("compare", mine, other, "--draws", 100), ["among 22 items", "among 21, which are not the same"])


def test_past_items_take_part_or_not_as_the_user_says(run, circle, tmp_path, here: Here):
    again = circle.parent / "again_or_not"
    shutil.copytree(run, again)
    plain = found_by(here, again, "-p", 1)
    with_past = found_by(here, again, "--repeat", "-p", 1)
    assert with_past[0]["repeat"]
    assert with_past[1]["popularity_mrr@20"] < plain[1]["popularity_mrr@20"]
    file = again / "experiment.yaml"
    file.write_text(file.read_text().replace("repeat: false", "repeat: true"))
    assert found_by(here, again, "--no-repeat", "-p", 1) == plain
    assert found_by(here, again, "-p", 1) == with_past
    users = circle / "events" / "beauty" / "test"
    assert here("recommend", again, users, tmp_path / "new", "-k", 5, "--no-repeat")[0] == 0
    past = {row["user_id"]: set(row["history"]) for row in pq.read_table(users).to_pylist()}
    assert not any(past[row["user_id"]] & set(row["items"]) for row in pq.read_table(tmp_path / "new").to_pylist())


def test_one_domain_s_items_are_those_of_its_training_events(run, circle, tmp_path, here: Here):
    """Of a run of an older version, which has not kept them."""
    mine, statistics = circle.parent / "one_domain", Statistics.load(run / "vocabulary")
    shutil.copytree(run, mine)
    shutil.rmtree(mine / "vocabulary")
    replace(statistics, items={}).save(mine / "vocabulary")
    few = pq.read_table(circle / "events" / "beauty" / "train").slice(0, 3)
    pq.write_table(few, tmp_path / "few.parquet")
    text = (mine / "experiment.yaml").read_text()
    train = next(line.split(": ", 1)[1] for line in text.splitlines() if line.strip().startswith("train:"))
    (mine / "experiment.yaml").write_text(text.replace(train, str(tmp_path / "few.parquet")))
    users = circle / "events" / "beauty" / "test"
    assert here("recommend", mine, users, tmp_path / "out", "-k", 50, "--repeat", "--domain", "beauty")[0] == 0
    items = {item for row in pq.read_table(tmp_path / "out").to_pylist() for item in row["items"]}
    assert items == set(few["item_id"].to_pylist())
    told, row = found_by(here, mine, "--domain", "beauty", "-p", 1)
    assert told["domain"] == "beauty"
    assert row["items"] == len(items)
    assert row["rows"] == 300
    check_told(here("evaluate", mine, "--domain", "buty"), ["--domain", "Did you mean 'beauty'"])
    check_told(here("recommend", mine, users, tmp_path / "no", "--domain", "buty"), ["Did you mean 'beauty'"])


def test_recommendations_are_the_next_items_and_none_of_the_past(run, circle, tmp_path, here: Here):
    users = circle / "events" / "beauty" / "test"
    told = foundrank("recommend", run, users, tmp_path / "out", "-k", 5, "-p", 2).stdout
    from_python = load(run).recommend(pq.read_table(users), k=5)
    assert from_python.equals(pq.read_table(tmp_path / "out", schema=from_python.schema))
    assert "best 5 items of 300 users" in told
    assert without_temporaries(tmp_path / "out")[0] == "_SUCCESS"
    given = {row["user_id"]: row for row in pq.read_table(users).to_pylist()}
    got = pq.read_table(tmp_path / "out").to_pylist()
    assert [row["user_id"] for row in got] == list(given)
    first = 0
    for row in got:
        past = given[row["user_id"]]["history"]
        assert len(row["items"]) == 5
        assert not set(row["items"]) & set(past)
        assert 21 not in row["items"]  # never seen, and without text nothing is known of it
        assert row["scores"] == sorted(row["scores"], reverse=True)
        first += row["items"][0] == past[-1] % 20 + 1
    assert first > 0.9 * len(got)
    # Again, it finds all done; with another K the folder holds something else.
    part = next((tmp_path / "out").glob("part-*"))
    written = part.stat().st_mtime_ns
    foundrank("recommend", run, users, tmp_path / "out", "-k", 5)
    assert part.stat().st_mtime_ns == written
    check_told(here("recommend", run, users, tmp_path / "out", "-k", 6), ["k differ"])


def test_pairs_are_scored_as_recommended_past_items_too(run, circle, tmp_path, here: Here):
    rows = pq.read_table(circle / "events" / "beauty" / "test").to_pylist()[:40]
    users = pa.table({name: [row[name] for row in rows] for name in ("user_id", "history")})
    pq.write_table(users, tmp_path / "users.parquet")
    assert here("recommend", run, tmp_path / "users.parquet", tmp_path / "all", "-k", 50, "--repeat")[0] == 0
    wanted = {
        (row["user_id"], item): score
        for row in pq.read_table(tmp_path / "all").to_pylist()
        for item, score in zip(row["items"], row["scores"], strict=True)
    }
    pairs = users.take([user for user in range(40) for _ in range(21)])
    pairs = pairs.append_column("item_id", pa.array([*range(1, 22)] * 40, pa.int64()))
    pq.write_table(pairs, tmp_path / "pairs.parquet")
    told = foundrank("score", run, tmp_path / "pairs.parquet", tmp_path / "out", "--domain", "beauty", "-p", 2).stdout
    assert "40 of them have no item, or one of which nothing is known" in told  # item 21
    like_it = ("--domain", "new", "--like", "beauty")
    said = foundrank("score", run, tmp_path / "pairs.parquet", tmp_path / "new", *like_it, "-p", 1).stdout
    assert "these are mean scores over beauty" in " ".join(said.split())
    scores = pq.read_table(tmp_path / "out")
    got = {(row["user_id"], row["item_id"]): row["score_next_item"] for row in scores.to_pylist()}
    assert {pair for pair, score in got.items() if score is None} == {(row["user_id"], 21) for row in rows}
    assert [got[pair] for pair in wanted] == pytest.approx(list(wanted.values()), rel=1e-4, abs=1e-5)
    scorer = load(run)
    from_python = scorer.score(pairs, domain="beauty")
    assert from_python["score_next_item"].null_count == 40
    again = [table["score_next_item"].fill_null(0).to_pylist() for table in (from_python, scores)]
    assert again[0] == pytest.approx(again[1], rel=1e-4, abs=1e-5)
    assert scorer.recommend(users, k=1)["items"].to_pylist() == load(run).recommend(users, k=1)["items"].to_pylist()


def test_past_items_come_again_only_when_asked_for_and_no_user_is_left_out(run, circle, tmp_path):
    users = pa.table({"user_id": [1, 2, 3], "history": pa.array([[4, 5], [], None], pa.list_(pa.int64()))})
    pq.write_table(users, tmp_path / "users.parquet")
    told = foundrank(
        "recommend", run, tmp_path / "users.parquet", tmp_path / "out", "-k", 50, "--repeat", "--approximate"
    )
    assert "100.0% were found" in told.stdout  # so few items are one list
    rows = pq.read_table(tmp_path / "out").to_pylist()
    assert [sorted(row["items"]) for row in rows] == [list(range(1, 21))] * 3


def test_a_ranking_model_begins_with_what_was_learned_from_the_order_of_items(run, circle, tmp_path, here: Here):
    events = pq.read_table(circle / "events" / "beauty" / "train")
    labelled = pa.table({name: events[name] for name in events.column_names} | {"liked": pa.array([1, 0] * 150)})
    pq.write_table(labelled, tmp_path / "labelled.parquet")
    ranking = (
        f"init_from={run}; model.next_item=null; domains.beauty.tasks={{liked: {{label: liked}}}}; "
        f"domains.beauty.events={{train: {tmp_path / 'labelled.parquet'}}}; training.epochs=1; training.learning_rate=1e-9; "
        "training.sparse_learning_rate=1e-9"
    )
    arguments = ("train", circle, "--run-dir", tmp_path / "ranks", "-p", 2, "--set", SMALL, "--set", ranking)
    told = foundrank(*arguments).stdout
    assert f"dense parameters from {run}" in told
    before, after = weights_of(run), weights_of(tmp_path / "ranks")
    shared = before.keys() & after.keys()
    for part in ("history.encoder.stack", "id_projections.item", "embedding_bags.id_item"):
        assert any(part in name for name in shared), part
    for name in shared - {"model.embeddings.embedding_bags.id_user.weight"}:
        torch.testing.assert_close(after[name][: len(before[name])], before[name], rtol=0, atol=1e-5)


def test_mistakes_are_told_before_work_starts(run, circle, tmp_path, here: Here):
    pq.write_table(pa.table({"user_id": [1]}), tmp_path / "users.parquet")
    check_told(here("recommend", run, tmp_path / "users.parquet", tmp_path / "out"), ["'history'"])
    assert not (tmp_path / "out").exists()
    broken = circle.parent / "broken"
    shutil.copytree(run, broken)
    file = broken / "experiment.yaml"
    text = file.read_text()
    file.write_text(text.replace("next_item:", "next_itm:"))
    check_told(here("evaluate", broken), ["Did you mean 'next_item'?"])
    for change, words in (
        ("model.next_item=null", "nothing to learn"),
        ("model.history.encoder=din", "next_item needs history.encoder"),
        ("model.history.heads=3", "cannot be divided by history.heads 3"),
        ("entities.user.history=null", "rows have no history"),
        ("model.gate=none", "no vectors of past items"),
    ):
        check_told(here("train", circle, "--run-dir", tmp_path / "no", "--set", change), [words])
    assert not (tmp_path / "no").exists()
