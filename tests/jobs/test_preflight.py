"""What would fail after an hour in a queue is refused before anything is submitted, with its remedy."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from .commands import ENVIRONMENT, Here, foundrank, settings

CLUSTER = "world_size=2,host_memory_gib=4"


@pytest.fixture
def copy(embedded: Path, tmp_path: Path) -> Path:
    """A copy of the embedded world, to spoil."""
    return Path(shutil.copytree(embedded, tmp_path / "world"))


def without_store(world: Path) -> None:
    shutil.rmtree(world / "text_store")


def other_template(world: Path) -> None:
    path = world / "experiment.yaml"
    raw = yaml.safe_load(path.read_text())
    raw["entities"]["item"]["text"] = "{category}: {title}"
    path.write_text(yaml.safe_dump(raw))


def more_items(world: Path) -> None:
    path = world / "catalogs" / "items.parquet"
    pq.write_table(pq.read_table(path).slice(1), path)


def without_label(world: Path) -> None:
    [path, *_] = sorted((world / "events" / "shop_feed" / "train").glob("*.parquet"))
    pq.write_table(pq.read_table(path).drop_columns("click"), path)


def without_events(world: Path) -> None:
    shutil.rmtree(world / "events" / "video_feed" / "train")


def nothing(world: Path) -> None:
    pass


TRAINING = {
    "no experiment": (nothing, ["{world}/absent.yaml"], ["absent.yaml", "no such experiment file"]),
    "a misspelt field": (nothing, ["{world}", "--set", "training.epoch=1"], ["Did you mean 'epochs'"]),
    "no events": (without_events, ["{world}"], ["domains.video_feed.events.train"]),
    "no label": (without_label, ["{world}"], ["part-00000.parquet", "click"]),
    "no text store": (without_store, ["{world}"], ["text_store", "foundrank embed"]),
    "texts of another template": (other_template, ["{world}"], ["{category}: {title}", "foundrank embed"]),
    "a catalog that has changed": (more_items, ["{world}"], ["has changed since its texts were embedded"]),
    "a run folder that is a file": (nothing, ["{world}", "--run-dir", "{world}/experiment.yaml"], ["is a file"]),
    "a run of another experiment": (nothing, ["{world}", "--run-dir", "{run}"], ["another experiment", "--run-dir"]),
    "no run to fine-tune": (nothing, ["{world}", "--set", "init_from=gone"], ["gone", "it is not a run"]),
    "an optimizer for GPUs": (nothing, ["{world}", "--set", "training.sparse_optimizer=adam"], ["runs on GPUs only"]),
    "tables that do not fit": (
        nothing,
        [
            "{world}",
            "--cluster",
            "host_memory_gib=1",
            "--set",
            "entities.user.encoding=hash; entities.user.buckets=20_000_000",
        ],
        ["do not fit 1 rank(s) of 1.0 GiB", "foundrank plan"],
    ),
    "a batch that does not fit": (
        nothing,
        ["{world}", "--cluster", CLUSTER, "--set", "training.batch_size=100000"],
        ["2 rank(s) of 2.0 GiB", "most of it for batches", "training.batch_size"],
    ),
    "a field no cluster has": (nothing, ["{world}", "--cluster", "wold_size=2"], ["Did you mean 'world_size'"]),
}


@pytest.mark.parametrize("case", TRAINING)
def test_a_training_that_would_fail_is_refused(case: str, copy: Path, run: Path, here: Here, tmp_path: Path):
    spoil, arguments, told = TRAINING[case]
    spoil(copy)
    filled = [
        argument.format(world=copy, run=run) if "{world}" in argument or "{run}" in argument else argument
        for argument in arguments
    ]
    given = filled if "--cluster" in filled else [*filled, "--cluster", CLUSTER]
    given = given if "--run-dir" in given else [*given, "--run-dir", str(tmp_path / "new")]
    status, error = here("train", *given, "--check")
    assert status == 2
    assert [words for words in told if words not in error] == [], error
    assert not (tmp_path / "new").exists()


def test_what_is_right_passes_and_leaves_nothing(copy: Path, run: Path, here: Here, tmp_path: Path, capfd):
    new = tmp_path / "new"
    assert here("train", copy, "--run-dir", new, "--cluster", CLUSTER, *settings(), "--check") == (0, "")
    assert here("embed", copy, "--check") == (0, "")
    assert here("evaluate", run, "--check") == (0, "")
    source = copy / "events" / "events_feed" / "test"
    assert here("score", run, source, tmp_path / "scores", "--domain", "events_feed", "--check") == (0, "")
    assert not new.exists()
    assert not list((tmp_path / "scores").glob("*.parquet"))


def test_the_network_between_ranks_is_measured_and_nothing_is_left(copy: Path, tmp_path: Path):
    new = tmp_path / "new"
    command = ["train", copy, "--run-dir", new, "--check", "--network", "-p", "2", *settings()]
    lines = foundrank(*command).stdout.splitlines()
    assert lines[0].startswith("2 ranks on 1 host(s): an all-reduce of one number takes")
    assert [line for line in lines if line.startswith("a step's exchanges at these rates")]
    assert lines[-1] == "checks passed"
    records = [json.loads(line) for line in foundrank(*command, "--log-format", "json").stdout.splitlines()]
    by_event = {record["event"]: record for record in records}
    assert [link["ranks"] for link in by_event["network_links"]["links"]] == [[0, 1]]
    assert by_event["network_links"]["links"][0]["gb_s"] > 0
    sizes = [of["bytes"] for of in by_event["network_all_to_all"]["exchanges"]]
    assert sizes == sorted(sizes)
    assert by_event["network_step"]["ms"] == pytest.approx(sum(by_event["network_step"]["parts"].values()))
    assert "network_slow" not in by_event
    assert not new.exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--check", "--network"], "this job is one process"),
        (["--network", "-p", "2"], "--check, which is not given"),
        (["--check", "--network", "-p", "2", "--cluster", CLUSTER], "machines that need not be there"),
    ],
)
def test_a_network_that_cannot_be_measured_is_refused(embedded: Path, here: Here, tmp_path: Path, arguments, told: str):
    status, error = here("train", embedded, "--run-dir", tmp_path / "new", *arguments)
    assert status == 2
    assert told in error
    assert not (tmp_path / "new").exists()


OTHERS = {
    "an encoder that is none": (["embed", "{world}", "--set", "text.encoder={world}/catalogs"], ["no config.json"]),
    "a split nobody has": (["evaluate", "{run}", "--split", "tset"], ["no domain has a 'tset' split"]),
    "no run to evaluate": (["evaluate", "{world}"], ["it is not a run"]),
    "nothing to score": (["score", "{run}", "{world}/none/*.parquet", "{world}/scores"], ["none/*.parquet"]),
    "a domain nobody knows": (
        ["score", "{run}", "{world}/events/events_feed/test", "{world}/scores", "--domain", "evnts_feed"],
        ["Did you mean 'events_feed'"],
    ),
}


@pytest.mark.parametrize("case", OTHERS)
def test_other_jobs_that_would_fail_are_refused(case: str, copy: Path, run: Path, here: Here):
    arguments, told = OTHERS[case]
    status, error = here(*(argument.format(world=copy, run=run) for argument in arguments), "--check")
    assert status == 2
    assert [words for words in told if words not in error] == [], error


def torchx(*arguments: object) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    command = ["torchx", "run", "-s", "local_cwd", "--dryrun", *map(str, arguments)]
    return subprocess.run(
        command, env=ENVIRONMENT | {"PATH": path}, capture_output=True, text=True, timeout=120, check=False
    )


def test_torchx_submits_nothing_that_would_fail(copy: Path, tmp_path: Path):
    without_events(copy)
    refused = torchx("foundrank.train", "--experiment", copy, "--run", tmp_path / "new")
    assert refused.returncode == 2
    assert "domains.video_feed.events.train" in refused.stderr
    assert "nothing was submitted" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert (
        torchx("foundrank.train", "--experiment", copy, "--run", tmp_path / "new", "--check", "False").returncode == 0
    )


def test_torchx_is_told_of_the_node(copy: Path, tmp_path: Path):
    given = ["foundrank.train", "--experiment", copy, "--run", tmp_path / "new"]
    crowded = torchx(*given, "--nproc", "4", "--gpu", "2")
    assert crowded.returncode == 2
    assert "more processes than the node's 2 GPU(s)" in crowded.stderr
    small = torchx(*given, "--memMB", "1024", "--nproc", "2")
    assert small.returncode == 2
    assert "2 rank(s) of 0.5 GiB" in small.stderr
    unknown = torchx(*given, "-h", "nonesuch_8")
    assert unknown.returncode != 0
    assert "nonesuch_8" in unknown.stderr
