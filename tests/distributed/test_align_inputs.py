"""What an alignment reads: domains with features of their own, empty row groups, gaps in rewards; and what it refuses before its work."""

import shutil
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from foundrank import load
from foundrank.data.errors import UserError
from foundrank.data.events.event_files import look_again
from foundrank.dist.align.align import align
from foundrank.dist.align.finding import find
from foundrank.dist.align.prepare import prepare_alignment
from foundrank.dist.align.request import AFTER, BEFORE, TRAIN, AlignJob, Grouping
from foundrank.dist.align.reward_spec import reward_spec
from foundrank.dist.align.rewarding import reward
from foundrank.dist.promote.promote import promote
from foundrank.dist.ranks.runtime import Runtime
from foundrank.dist.run.run_folder import write_json
from foundrank.dist.score import score as score_module
from tests.coded_world import ITEMS, opened, raw_experiment, write_world

from .harness import run_ranks
from .test_codes import trained

BEST = Grouping(4, 4)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The experiment; users have a mood in ``feed`` alone, which is before their past. The files of ``home`` have a row group without rows."""
    raw = raw_experiment(
        next_item={"loss": "softmax"},
        aspects=["id", "look"],
        history={"encoder": "sasrec", "layers": 1, "heads": 1, "dropout": 0, "prefix": ["user"]},
    )
    del raw["entities"]["item"]["contents"]["codes"]
    raw["domains"]["feed"]["features"] = {"mood": {"kind": "dense", "entity": "user"}}
    raw["domains"]["home"]["tasks"] = {}
    path = write_world(tmp_path_factory.mktemp("align"), raw, users=120, group=41)
    for split in ("train", "validation", "test"):
        feed, home = (path.parent / f"{name}.{split}.parquet" for name in ("feed", "home"))
        table = pq.read_table(feed)
        moods = pa.array(np.random.default_rng(0).normal(size=table.num_rows))
        pq.write_table(table.append_column("mood", moods), feed, row_group_size=41)
        table = pq.read_table(home)
        with pq.ParquetWriter(home, table.schema) as writer:
            for part in (table.slice(0, 0), table.slice(0, 41), table.slice(41)):
                writer.write_table(part)
    return path


@pytest.fixture(scope="module")
def generator(world: Path) -> Path:
    return trained(world, "generator")


def job_of(run: Path, out: Path, asked: str = "hits", *overrides: str, weights: str = "") -> AlignJob:
    return prepare_alignment(run, str(out), reward_spec(asked, weights), BEST, overrides=overrides)


def found(runtime: Runtime, job: AlignJob, replicated: bool) -> None:
    if not replicated:
        score_module.replicate = lambda *_: None
    find(job, job.run, job.folder, (TRAIN, BEFORE), runtime)
    reward(job, (TRAIN, BEFORE), runtime)


def parts(out: Path, of: str, stage: str, domain: str) -> pa.Table:
    return pq.read_table(out / "candidates" / of / stage / domain)


def test_candidates_are_found_by_what_a_domain_alone_knows_of_users(generator, tmp_path):
    run_ranks(found, 1, job_of(generator, tmp_path / "out"), True)
    table = parts(tmp_path / "out", TRAIN, "found", "feed")
    pairs = table.take(pa.array(np.repeat(np.arange(table.num_rows), 4)))
    items = table["candidates"].combine_chunks().flatten()
    pairs = pairs.drop_columns(["item", "candidates", "reference"]).append_column("item", items)
    scores = load(generator).score(pairs, domain="feed")
    of_pairs = np.asarray(scores["score_next_item"]) * 8**-0.5
    np.testing.assert_allclose(of_pairs, table["reference"].combine_chunks().flatten().to_numpy(), atol=1e-5)
    # Which is not what they would be without it.
    other = pairs.set_column(pairs.column_names.index("mood"), "mood", pa.array(np.zeros(pairs.num_rows)))
    assert np.abs(np.asarray(load(generator).score(other, domain="feed")["score_next_item"]) * 8**-0.5 - of_pairs).max() > 1e-3  # fmt: skip


def test_recommendations_of_a_domain_s_items_read_users_as_its_rows(world, generator):
    users, scorer = pq.read_table(world.parent / "feed.test.parquet").slice(0, 20), load(generator)
    told = scorer.recommend(users, 5, domain="feed")["scores"].to_pylist()
    flat = users.set_column(users.column_names.index("mood"), "mood", pa.array(np.zeros(20)))
    assert told != scorer.recommend(flat, 5, domain="feed")["scores"].to_pylist()
    assert scorer.recommend(users, 5)["scores"].to_pylist() == scorer.recommend(flat, 5)["scores"].to_pylist()
    with pytest.raises(UserError, match=r"'mood'.*is missing"):
        scorer.recommend(users.drop_columns(["mood"]), 5, domain="feed")


def test_row_groups_without_rows_keep_no_rank_waiting(generator, tmp_path):
    run_ranks(found, 1, job_of(generator, tmp_path / "one"), True)
    run_ranks(found, 2, job_of(generator, tmp_path / "two"), False, deadline=40)
    for of in (TRAIN, BEFORE):
        one, two = (parts(tmp_path / name, of, "rewarded", "home") for name in ("one", "two"))
        assert one["candidates"].equals(two["candidates"])
        assert one["reward"].equals(two["reward"])
    assert len(list((tmp_path / "one/candidates/train/rewarded/home").glob("part-*"))) == 3


def aligned(runtime: Runtime, job: AlignJob) -> tuple[dict | int, bool]:
    """What the alignment says; and whether a signal ends the process again by the time the aligned run is looked at."""
    before, seen = signal.getsignal(signal.SIGTERM), list[bool]()

    def look() -> None:
        while not (Path(job.out) / "candidates/after").exists():
            time.sleep(0.001)
        seen.append(signal.getsignal(signal.SIGTERM) == before)

    looking = threading.Thread(target=look, daemon=True)
    looking.start()
    told = align(job, runtime)
    looking.join(5)
    return told, seen[0]


def test_a_table_of_rewards_may_have_gaps(generator, tmp_path):
    pairs = [(user, item, float(item)) for user in range(0, 30, 2) for item in range(0, ITEMS, 3)]
    columns = (list(of) for of in zip(*pairs, strict=True))
    pq.write_table(pa.table(dict(zip(("user", "item", "reward"), columns, strict=True))), tmp_path / "rewards.parquet")
    job = job_of(generator, tmp_path / "out", str(tmp_path / "rewards.parquet"), "training.max_steps=2")
    ((told, can_be_ended),) = run_ranks(aligned, 1, job)
    assert can_be_ended
    (row,) = (row for row in told["measures"] if (row["domain"], row["measure"]) == ("home", "reward"))
    assert 0 < row["rows"] < 60
    for of in (TRAIN, BEFORE, AFTER):
        table = parts(tmp_path / "out", of, "rewarded", "home")
        for user, items, rewards in zip(*(table[name].to_pylist() for name in ("user", "candidates", "reward")), strict=True):  # fmt: skip
            assert rewards == [float(item) if user % 2 == 0 and item % 3 == 0 else None for item in items]


def with_strings(world: Path, folder: Path) -> Path:
    """The world with item ids that are strings, and no catalog."""
    shutil.copytree(world.parent, folder, ignore=shutil.ignore_patterns("generator", "other"))
    for file in folder.glob("*.*.parquet"):
        table = pq.read_table(file)
        of_list = table["history"].cast(pa.list_(pa.string()))
        table = table.set_column(1, "item", table["item"].cast(pa.string())).set_column(2, "history", of_list)
        pq.write_table(table, file)
    return folder / world.name


NO_CATALOG = ("entities.item.catalog=null", "entities.item.contents={}", "model.aspects=[id]")


def test_items_that_cannot_be_named_are_no_candidates(world, tmp_path):
    run = trained(with_strings(world, tmp_path / "strings"), "other", *NO_CATALOG, "training.max_steps=1")
    with pytest.raises(UserError, match="ids that are strings and no catalog"):
        job_of(run, tmp_path / "out")


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (("model.width=16",), "is a run of another model.*width"),
        (("training.sparse_optimizer=adam",), "runs on GPUs only"),
        (("training.optimizer.kind=sgd",), "was trained by adam"),
    ],
)
def test_a_fine_tuning_that_cannot_begin_is_refused(generator, tmp_path, overrides, told):
    with pytest.raises(UserError, match=told):
        job_of(generator, tmp_path / "out", "hits", *overrides)


@pytest.mark.parametrize(
    ("grouping", "told"),
    [
        (Grouping(1, 4), "--candidates: is 1"),
        (Grouping(0, 1), "--candidates: is 0"),
        (Grouping(2, 1), "--pool: is 1"),
        (Grouping(4, 4, 0.0), "--temperature: is 0"),
        (Grouping(4, 4, float("nan")), "--temperature: is nan"),
    ],
)
def test_groups_of_which_nothing_is_preferred_are_refused(generator, tmp_path, grouping, told):
    with pytest.raises(UserError, match=told):
        prepare_alignment(generator, str(tmp_path / "out"), reward_spec("hits", ""), grouping)


def test_the_place_must_be_free(generator, tmp_path):
    for out in (generator, generator / "aligned"):
        with pytest.raises(UserError, match="which is aligned, or lies in it"):
            job_of(generator, out)
    other = shutil.copytree(generator, tmp_path / "other")
    with pytest.raises(UserError, match="holds a run of another experiment"):
        job_of(generator, other)
    (tmp_path / "text").mkdir()
    (tmp_path / "text/notes.txt").write_text("mine")
    with pytest.raises(UserError, match="is not empty and holds no run"):
        job_of(generator, tmp_path / "text")
    with pytest.raises(UserError, match="which is aligned, or lies in it"):
        job_of(generator, other / "aligned", str(other))


def test_what_a_reward_run_reads_is_looked_for(world, generator, tmp_path):
    folder = tmp_path / "more"
    shutil.copytree(world.parent, folder, ignore=shutil.ignore_patterns("generator", "other"))
    for file in folder.glob("home.*.parquet"):
        table = pq.read_table(file)
        pq.write_table(table.append_column("age", pa.array(np.zeros(table.num_rows))), file)
    age = "domains.home.features={age: {kind: dense}}"
    run = trained(folder / world.name, "ages", age, "training.max_steps=1")
    with pytest.raises(UserError, match=r"home.*'age'.*is missing"):
        job_of(generator, tmp_path / "out", str(run))
    strings = trained(with_strings(world, tmp_path / "strings"), "other", *NO_CATALOG, "training.max_steps=1")
    with pytest.raises(UserError, match="integer ids, but the run holds string ids"):
        job_of(generator, tmp_path / "out", str(strings))


def test_a_generator_with_frozen_levels_is_aligned_with_optimizers_of_its_own(world, generator, tmp_path):
    frozen = trained(world, "other", f"init_from={generator}", "training.freeze=[L0]", "training.max_steps=1")
    assert job_of(generator, tmp_path / "out").experiment.init_optimizer
    assert not job_of(frozen, tmp_path / "out").experiment.init_optimizer
    assert opened(frozen / "experiment.yaml").training.freeze


def test_the_run_in_use_rewards(generator, tmp_path):
    promote(generator, tmp_path / "target")
    assert reward_spec(str(tmp_path / "target"), "").run == str(generator.resolve())
    assert job_of(generator, tmp_path / "out", str(tmp_path / "target")).reward.run == str(generator.resolve())


def test_other_events_and_bad_rows_that_a_training_skips_are_refused(world, tmp_path):
    folder = tmp_path / "spoilt"
    shutil.copytree(world.parent, folder, ignore=shutil.ignore_patterns("generator", "other"))
    run = trained(folder / world.name, "skips", "bad_data.policy=skip", "training.max_steps=1")
    assert job_of(run, tmp_path / "out").experiment.training.max_steps is None  # all epochs of the alignment
    job, file = job_of(run, tmp_path / "out"), folder / "feed.test.parquet"
    job.note.parent.mkdir(parents=True)
    write_json(job.note, job.settings())
    assert job_of(run, tmp_path / "out") == job
    table = pq.read_table(file)
    pq.write_table(table.slice(1), file)
    look_again()
    with pytest.raises(UserError, match=r"holds another alignment \(events.feed.test"):
        job_of(run, tmp_path / "out")
    moods = np.asarray(table["mood"]).copy()
    moods[50] = np.inf
    pq.write_table(table.set_column(table.column_names.index("mood"), "mood", pa.array(moods)), file, row_group_size=41)
    look_again()
    with pytest.raises(UserError, match=r"row group 1, row 9, column 'mood'.*an alignment leaves no row out"):
        job_of(run, tmp_path / "out")


def test_tasks_of_domains_and_ids_wider_than_those_of_events(world, generator, tmp_path):
    folder = tmp_path / "wide"
    shutil.copytree(world.parent, folder, ignore=shutil.ignore_patterns("generator", "other"))
    for file in folder.glob("*.*.parquet"):
        table = pq.read_table(file).append_column("click", pa.array(np.zeros(pq.read_metadata(file).num_rows)))
        pq.write_table(table.set_column(1, "item", table["item"].cast(pa.int32())), file)
    items = pq.read_table(folder / "items.parquet")
    new = items.set_column(0, "item", pa.array(np.arange(ITEMS) + 2**40))
    pq.write_table(pa.concat_tables([items, new]), folder / "items.parquet")
    run = trained(folder / world.name, "wide")
    tasks = ("domains.home.tasks={click: {label: click}}", "domains.feed.tasks={like: {label: click}}")
    ranker = str(trained(folder / world.name, "ranker", *tasks, "training.max_steps=1"))
    for weights, told in (
        ("click=1", "names no task of feed"),
        ("click=1,buy=1", "'buy' is not a task of"),
    ):
        with pytest.raises(UserError, match=told):
            job_of(run, tmp_path / "out", ranker, weights=weights)
    run_ranks(found, 1, job_of(run, tmp_path / "out", ranker, weights="click=1,like=-2"), True)
    every = {name: parts(tmp_path / "out", BEFORE, "rewarded", name) for name in ("home", "feed")}
    assert max(item for items in every["home"]["candidates"].to_pylist() for item in items) > 2**40
    rewards = {name: np.concatenate([*map(np.asarray, table["reward"].to_pylist())]) for name, table in every.items()}
    assert (rewards["home"] > 0).all()
    assert (rewards["feed"] < 0).all()
