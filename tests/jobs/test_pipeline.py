"""From simulated events to a report, with the commands a user types."""

import json

import pyarrow.parquet as pq

from .commands import foundrank, without_temporaries


def test_simulate_writes_a_whole_world(world):
    assert {"catalogs", "events", "experiment.yaml"} <= set(without_temporaries(world))
    assert without_temporaries(world.parent)
    rows = sum(pq.read_metadata(file).num_rows for file in world.glob("events/*/*/*.parquet"))
    assert rows == 20_000


def test_embed_writes_a_store_per_entity_and_leaves_it_alone_afterwards(embedded):
    assert without_temporaries(embedded / "text_store") == ["item", "query", "user"]
    manifests = {path: path.stat().st_mtime_ns for path in embedded.glob("text_store/*/*")}
    assert json.loads((embedded / "text_store/item/manifest.json").read_text())["dimension"] == 384
    assert foundrank("embed", embedded).stderr.count("up to date") == 3
    assert {path: path.stat().st_mtime_ns for path in embedded.glob("text_store/*/*")} == manifests


def test_describe_shows_every_domain_and_table(embedded):
    said = foundrank("describe", embedded).stdout
    for name in (
        "shop_search",
        "events_feed (cold)",
        "conversion",
        "id_item",
        "feature_seller",
        "dense part",
        "{title}",
    ):
        assert name in said, name


def test_train_leaves_a_run_folder(run):
    names = without_temporaries(run)
    assert {"experiment.yaml", "vocabulary", "metrics.jsonl", "validation.json", "run.json", "report.html"} <= set(
        names
    )
    info = json.loads((run / "run.json").read_text())
    assert info["world_size"] == 2
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, info["steps"] + 1))
    assert sum(line["loss"] for line in lines[-10:]) < sum(line["loss"] for line in lines[:10])
    assert without_temporaries(run / "checkpoints")[-1] == f"step_{info['steps']:08d}"
    assert {row["epoch"] for row in json.loads((run / "validation.json").read_text())["rows"]} == {1, 2}


def test_the_log_says_where_the_time_of_a_step_goes(run):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    steady = lines[3:]  # the first steps wait for the first rows
    for line in steady:
        parts = line["step_ms"]
        assert list(parts) == ["data", "exchange", "forward", "backward", "optimizer"]
        assert min(parts[part] for part in ("exchange", "forward", "backward", "optimizer")) > 0
        assert 100 < line["memory_mb"] < 10_000
    # Every line is one step of 2 x 128 rows: its parts are all of it, but for what the loop does between steps.
    share = sum(sum(line["step_ms"].values()) for line in steady) / sum(
        256_000 / line["samples_per_s"] for line in steady
    )
    assert 0.6 < share < 1.1
    info = json.loads((run / "run.json").read_text())
    assert list(info["startup_s"]) == [
        "process and imports", "checks", "vocabularies and catalogs", "model and tables", "first batch and step",
    ]  # fmt: skip
    assert min(info["startup_s"].values()) >= 0
    assert info["seconds"] - sum(list(info["startup_s"].values())[1:]) > 0


def test_a_trace_shows_some_steps_of_every_rank(run):
    for rank in range(2):
        events = json.loads((run / f"trace.rank{rank}.json").read_text())["traceEvents"]
        steps = {event["name"] for event in events if event["name"].startswith("ProfilerStep#")}
        assert len(steps) == 5
        assert "Optimizer.step#AdamW.step" in {event["name"] for event in events}


def test_evaluation_has_every_domain_and_both_yardsticks(run):
    result = json.loads((run / "evaluation.json").read_text())
    rows = {(r["domain"], r["task"], r["slice"]): r for r in result["rows"]}
    assert {domain for domain, _, _ in rows} == {p.name for p in (run.parent / "world/events").iterdir()}
    big = rows["shop_search", "click", "all"]
    assert big["auc"] > 0.55
    assert 0.55 < big["oracle_auc"] < 1
    assert 0 < big["popularity_auc"] < 1
    assert 0 < big["ndcg@10"] <= 1
    assert big["rows"] == pq.read_table(run.parent / "world/events/shop_search/test").num_rows
    assert result["split"] == "test"


def test_report_is_written_again(run):
    report = run / "report.html"
    report.unlink()
    said = foundrank("report", run).stdout
    assert str(report) in said.replace("\n", "")
    assert "shop_search" in report.read_text()
