"""A mistake of the user's: status 2, one message with place and remedy, no traceback, and nothing left behind."""

import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from foundrank.data.config.load import dump_experiment, load_experiment
from foundrank.data.simulation.worlds import simulate
from foundrank.model.kinds import KINDS

from .commands import Here, foundrank, settings

TRAIN = "shop_feed/train/part-00000.parquet"
ID_AND_SPARSE = "model.aspects=[id, sparse]"
Change = Callable[[Path], object]


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulate(tmp_path_factory.mktemp("bad") / "world", rows=10_000).parent


@pytest.fixture
def copy(clean: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(clean, tmp_path / "world"))


def edit(**columns: object) -> Change:
    """Replaces columns of one training file; None drops one."""

    def change(world: Path) -> None:
        path = world / "events" / TRAIN
        table = pq.read_table(path)
        for name, values in columns.items():
            table = table.drop_columns(name)
            if values is not None:
                values = values(table.num_rows) if callable(values) else values
                table = table.append_column(name, values)
        pq.write_table(table, path)

    return change


def experiment(**changes: object) -> Change:
    """Replaces keys of the experiment; ``a__b`` is ``a.b``."""

    def change(world: Path) -> None:
        path = world / "experiment.yaml"
        raw = yaml.safe_load(path.read_text())
        for key, value in changes.items():
            *parents, last = key.split("__")
            section = raw
            for parent in parents:
                section = section[parent]
            section[last] = value
        path.write_text(yaml.safe_dump(raw))

    return change


def empty(world: Path) -> None:
    path = world / "events" / TRAIN
    pq.write_table(pq.read_table(path).slice(0, 0), path)


def truncate(world: Path) -> None:
    path = world / "events" / TRAIN
    path.write_bytes(path.read_bytes()[:-100])


def repeat_an_item(world: Path) -> None:
    path = world / "catalogs" / "items.parquet"
    table = pq.read_table(path)
    pq.write_table(pa.concat_tables([table, table.slice(3, 1)]), path)


def short_vector(world: Path) -> None:
    """Item 7 has three values where the others have four."""
    path = world / "catalogs" / "items.parquet"
    table = pq.read_table(path)
    vectors = [[0.0] * (4 - (row == 7)) for row in range(len(table))]
    pq.write_table(table.append_column("image", pa.array(vectors, pa.list_(pa.float32()))), path)
    experiment(entities__item__features={"image": {"kind": "vector", "size": 4}})(world)


def short_vector_in_events(world: Path, row_groups: int = 2) -> None:
    """The last training row of one domain has such a vector; only in first row groups is it looked for beforehand."""
    experiment(domains__shop_feed__features={"image": {"kind": "vector", "size": 4}})(world)
    for path in world.glob("events/shop_feed/*/*.parquet"):
        table = pq.read_table(path)
        last = 3 if "train" in path.parts else 4
        vectors = pa.array([[0.0] * 4] * (len(table) - 1) + [[0.0] * last], pa.list_(pa.float32()))
        pq.write_table(table.append_column("image", vectors), path, row_group_size=-(-len(table) // row_groups))


def nan_position(world: Path) -> None:
    edit(position=lambda n: pa.array(np.where(np.arange(n) == 7, np.nan, 1.0)))(world)
    for path in world.glob("events/*/*/*.parquet"):
        table = pq.read_table(path)
        at = table.column_names.index("position")
        pq.write_table(table.set_column(at, "position", table["position"].cast(pa.float64())), path)
    experiment(context={"position": {"kind": "dense"}, "hour": {"kind": "categorical"}})(world)


def nothing(world: Path) -> None:
    pass


# name: how the world is spoilt, options of `train`, and what the message must name
TRAIN_MISTAKES: dict[str, tuple[Change, list[str], list[str]]] = {
    "unknown key": (experiment(trainning={}), [], ["experiment.yaml: trainning", "Did you mean 'training'?"]),
    "misspelt domain key": (
        experiment(domains__shop_feed__taks={}), [], ["domains.shop_feed.taks", "Did you mean 'tasks'?"],
    ),
    "set of a nonsense key": (nothing, ["--set", "training.epoch=3"], ["training.epoch", "Did you mean 'epochs'?"]),
    "set without a value": (nothing, ["--set", "training.epochs"], ["--set training.epochs", "is not key=value"]),
    "set of a wrong type": (nothing, ["--set", "training.epochs=many"], ["training.epochs", "integer", "'many'"]),
    "not YAML": (lambda w: (w / "experiment.yaml").write_text("name: [x"), [], ["experiment.yaml", "not valid YAML"]),
    "no experiment": (lambda w: (w / "experiment.yaml").unlink(), [], ["experiment", "no such", "YAML"]),
    "no file matches": (
        experiment(domains__shop_feed__events__train="nowhere/*.parquet"), [],
        ["domains.shop_feed.events.train", "no file matches", "nowhere/*.parquet", "relative to"],
    ),
    "missing column": (edit(hour=None), [], [TRAIN, "column 'hour'", "is missing", "context.hour"]),
    "missing label": (edit(click=None), [], [TRAIN, "column 'click'", "domains.shop_feed.tasks.click.label"]),
    "wrong column type": (
        edit(seller=lambda n: pa.array(np.ones(n))), [], [TRAIN, "column 'seller'", "double", "Cast the column"],
    ),
    "integer user ids in one domain, strings in another": (
        edit(user=lambda n: pa.array(["x"] * n)), [], ["column 'user'", "string ids", "integer ids for the same column or entity", "one type"],
    ),
    "label of 2": (
        edit(click=lambda n: pa.array(np.arange(n) % 3)), [], [TRAIN, "'click', row 2", "label is 2", "0, 1 or null"],
    ),
    "empty domain": (empty, [], ["domains.shop_feed.events.train", "hold no rows", "Remove the domain"]),
    "truncated Parquet": (truncate, [], [TRAIN, "cannot be read as Parquet", "truncated"]),
    "key twice in a catalog": (repeat_an_item, [], ["items.parquet", "'item'", "rows 3 and", "drop the duplicates"]),
    "no text store": (nothing, ["--set", "model.aspects=[id, text, sparse]"], ["text_store", "foundrank embed"]),
    "NaN in a dense column": (nan_position, [], [TRAIN, "'position'", "row 7", "nan", "Write null"]),
    "vector of the wrong length": (short_vector, [], ["items.parquet", "'image'", "row 7", "3 values", "says 4"]),
    "vector of the wrong length in the events": (
        lambda w: short_vector_in_events(w, row_groups=1), [], [TRAIN, "'image'", "row ", "3 values", "says 4"],
    ),
    "init_from that is no run": (nothing, ["--set", "init_from=catalogs"], ["catalogs", "has no experiment.yaml"]),
    "freezing without init_from": (
        nothing, ["--set", "training.freeze=[L0]"], ["training.freeze", "never trained", "init_from"],
    ),
    "a level there is not": (nothing, ["--set", "training.freeze=[L4]"], ["training.freeze", "L4"]),
    "only an unknown domain": (nothing, ["--set", "only=[shop_fed]"], ["only", "'shop_fed'", "Did you mean 'shop_feed'?"]),
    "optimizer without a GPU": (
        nothing, ["--set", "training.sparse_optimizer=adam"], ["training.sparse_optimizer", "GPU", "rowwise_adagrad"],
    ),
}  # fmt: skip


def check_told(told: tuple[int, str], wanted: list[str]) -> None:
    status, said = told
    assert status == 2, said
    assert "Traceback" not in said
    assert said.count("error: ") == 1
    for words in wanted:
        assert words in said, f"{words!r} is not in:\n{said}"


@pytest.mark.parametrize("mistake", TRAIN_MISTAKES)
def test_train_refuses(mistake: str, copy: Path, tmp_path: Path, here: Here):
    spoil, options, wanted = TRAIN_MISTAKES[mistake]
    spoil(copy)
    before = sorted(tmp_path.iterdir())
    told = here("train", copy, "--run-dir", tmp_path / "run", "--set", ID_AND_SPARSE, *options)
    check_told(told, wanted)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("mistake", ["missing column", "unknown key"])
def test_a_process_of_its_own_says_the_same(mistake: str, copy: Path, tmp_path: Path):
    spoil, options, wanted = TRAIN_MISTAKES[mistake]
    spoil(copy)
    before = sorted(tmp_path.iterdir())
    options = ["--set", ID_AND_SPARSE, *options, "-p", "2"]
    done = foundrank("train", copy, "--run-dir", tmp_path / "run", *options, status=2)
    check_told((done.returncode, done.stderr), wanted)
    assert sorted(tmp_path.iterdir()) == before


def test_ranks_tell_a_mistake_found_while_training_once(copy: Path, tmp_path: Path):
    short_vector_in_events(copy)
    options = settings(ID_AND_SPARSE, "training.epochs=1", "training.shuffle_rows=64")
    done = foundrank("train", copy, "--run-dir", tmp_path / "run", *options, "-p", "2", status=2)
    check_told((done.returncode, done.stderr), [TRAIN, "'image'", "row ", "3 values", "says 4"])
    assert "steps" not in (tmp_path / "run" / "run.json").read_text()


def test_a_run_folder_with_another_experiment(copy: Path, tmp_path: Path, here: Here):
    run = tmp_path / "run"
    run.mkdir()
    (run / "experiment.yaml").write_text(dump_experiment(load_experiment(copy, [ID_AND_SPARSE, "seed=1"], kinds=KINDS)))
    told = here("train", copy, "--run-dir", run, "--set", ID_AND_SPARSE)
    check_told(told, [str(run), "another experiment", "seed: 1 there, 2026 here", "--run-dir"])
    assert [path.name for path in run.iterdir()] == ["experiment.yaml"]


def test_init_from_a_run_of_another_model(run: Path, embedded: Path, tmp_path: Path, here: Here):
    told = here(
        "train", embedded, "--run-dir", tmp_path / "run", "--set", f"init_from={run}", "--set", "model.width=32"
    )
    check_told(told, ["init_from", str(run), "width: 16 there, 32 here", "same `model`"])
    assert list(tmp_path.iterdir()) == []


def test_a_run_folder_with_something_else(copy: Path, tmp_path: Path, here: Here):
    told = here("train", copy, "--run-dir", copy, "--set", "name=other", "--set", ID_AND_SPARSE)
    check_told(told, [str(copy), "--run-dir"])
    told = here("train", copy, "--run-dir", copy / "events", "--set", ID_AND_SPARSE)
    check_told(told, ["is not empty and holds no run", "--run-dir"])


def test_a_run_folder_that_cannot_be_made(copy: Path, tmp_path: Path, here: Here):
    (tmp_path / "file").touch()
    for run in (tmp_path / "file", tmp_path / "file" / "run"):
        told = here("train", copy, "--run-dir", run, "--set", ID_AND_SPARSE)
        check_told(told, [str(run), "folder"])
    assert (tmp_path / "file").read_bytes() == b""


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_parent_folder_without_permission(copy: Path, tmp_path: Path, here: Here):
    parent = tmp_path / "locked"
    parent.mkdir(mode=stat.S_IRUSR | stat.S_IXUSR)
    told = here("train", copy, "--run-dir", parent / "run", "--set", ID_AND_SPARSE)
    check_told(told, ["cannot be made", "--run-dir"])


def test_embed_names_the_unknown_column_of_a_template(copy: Path, here: Here):
    experiment(entities__item__text="{titel}")(copy)
    told = here("embed", copy)
    check_told(told, ["items.parquet", "'titel'", "Did you mean 'title'?"])
    assert not list(copy.glob("text_store/item*"))
    assert not list(copy.glob("text_store/*tmp*"))


def test_import_without_its_source(tmp_path: Path, here: Here):
    told = here("import", "movietweetings", tmp_path / "absent", tmp_path / "out")
    check_told(told, [str(tmp_path / "absent")])
    told = here("import", "movietweeting", tmp_path, tmp_path / "out")
    assert told[0] == 2
    assert "'movietweeting'. Did you mean 'movietweetings'?" in told[1]
    assert list(tmp_path.iterdir()) == []


def test_simulate_into_a_folder_in_use(copy: Path, here: Here):
    check_told(here("simulate", copy, "--rows", "20000"), ["exists already", "Give a new folder"])


SCORE_MISTAKES = {
    "unknown domain": (["--domain", "shop_fed"], ["--domain", "'shop_fed'", "Did you mean 'shop_feed'?"]),
    "no domain column": ([], ["has no column 'domain'", "--domain"]),
    "unknown column to keep": (["--domain", "shop_feed", "--keep", "clik"], ["--keep", "'clik'", "'click'"]),
    "like an unknown domain": (["--domain", "new", "--like", "shop_fed"], ["--like", "'shop_fed'", "'shop_feed'"]),
    "like others, though known": (["--domain", "shop_feed", "--like", "video_feed"], ["--like", "which the run knows"]),
    "input without a needed column": (["--domain", "events_feed"], ["'days_ahead'", "is missing"]),
}


@pytest.mark.parametrize("mistake", SCORE_MISTAKES)
def test_score_refuses(mistake: str, run: Path, embedded: Path, tmp_path: Path, here: Here):
    options, wanted = SCORE_MISTAKES[mistake]
    source = embedded / "events" / "shop_feed" / "test"
    check_told(here("score", run, source, tmp_path / "out", *options), wanted)
    assert list(tmp_path.iterdir()) == []


def test_score_without_input(run: Path, tmp_path: Path, here: Here):
    given = "score", run, tmp_path / "absent.parquet", tmp_path / "out", "--domain", "shop_feed"
    check_told(here(*given), ["no file matches", "absent.parquet"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("processes", [1, 2])
def test_score_names_the_row_of_an_unknown_domain(run: Path, embedded: Path, tmp_path: Path, processes: int):
    tables = [pq.read_table(path) for path in sorted(embedded.glob("events/*/test/*.parquet"))]
    table = pa.concat_tables(tables, promote_options="default").slice(0, 200)
    names = ["shop_feed"] * 150 + ["shop_fed"] + ["shop_feed"] * 49
    pq.write_table(table.append_column("domain", pa.array(names)), tmp_path / "in.parquet", row_group_size=100)
    out = tmp_path / "out"
    done = foundrank("score", run, tmp_path / "in.parquet", out, "-p", processes, status=2)
    check_told((done.returncode, done.stderr), ["in.parquet: row group 1, row 50", "'shop_fed'", "'shop_feed'?"])
    assert not (out / "_SUCCESS").exists()


def test_a_run_without_a_checkpoint(run: Path, embedded: Path, tmp_path: Path, here: Here):
    bare = tmp_path / "bare"
    bare.mkdir()
    shutil.copy(run / "experiment.yaml", bare)
    shutil.copytree(run / "vocabulary", bare / "vocabulary")
    source = embedded / "events" / "shop_feed" / "test"
    out = tmp_path / "out"
    for command in (["evaluate", bare], ["score", bare, source, out, "--domain", "shop_feed"]):
        check_told(here(*command), [str(bare), "no complete checkpoint", "foundrank train"])
    assert not out.exists()
    for command in (["evaluate", tmp_path], ["report", tmp_path], ["score", tmp_path, source, out]):
        check_told(here(*command), [str(tmp_path), "it is not a run", "foundrank train"])


def test_evaluate_of_an_unknown_split(run: Path, here: Here):
    check_told(here("evaluate", run, "--split", "tset"), ["no domain has a 'tset' split", "validation or test"])
