"""Every shipped experiment is one a user can start from."""

import io
import os
import re
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from rich.console import Console

from foundrank.data.config.experiment import Experiment
from foundrank.data.config.load import load_experiment
from foundrank.data.config.sections.entities import Stored
from foundrank.data.config.sections.text import TextConfig
from foundrank.data.content_kinds.codes import OfVectors
from foundrank.data.events.check_events import check_events
from foundrank.data.schema.layout import Layout, make_layout
from foundrank.dist.capacity.describe import describe
from foundrank.model.contents.text_encoder_loading import load_text_encoder
from foundrank.model.foundation.foundation import Foundation
from foundrank.model.history.history import History
from foundrank.model.kinds import KINDS
from foundrank.model.tokenizers.items import Items

ROOT = Path(__file__).parents[4]
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))
PAPERS = sorted((ROOT / "examples/papers").glob("*.yaml"))
CODED = [path for path in PAPERS if "next_item: {target:" in path.read_text()]
"""Those whose items are found by codes."""
PREFIXED = [path for path in PAPERS if "prefix:" in path.read_text()]
TEXT, PLACES = 384, 64
"""Widths of the vectors of the encoder that is shipped, and of places in a graph."""


def test_there_are_examples():
    encoders = {f"history_{name}.yaml" for name in ("din", "sasrec", "bert4rec", "hstu")}
    assert {"minimal.yaml", "movietweetings.yaml"} | encoders <= {path.name for path in EXAMPLES}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_parses_and_makes_a_model(path):
    experiment = load_experiment(path, kinds=KINDS)
    _, model = model_of(experiment)
    owners = model.dense.represent.encoder.owners
    assert owners["item"][:2] == ("id", "text")
    if path.stem.startswith("history_"):
        assert experiment.model.history.encoder == path.stem.removeprefix("history_")
        assert model.dense.history.encoder is not None
    else:
        assert {*experiment.entities.present(), "history"} <= set(owners)


def model_of(experiment: Experiment) -> tuple[Layout, Foundation]:
    texts = {name: TEXT for name, entity in experiment.entities.present().items() if entity.text}
    tables = dict.fromkeys(make_layout(experiment, {"id_item": 100}, texts).table_of.values(), 100)
    layout = make_layout(experiment, tables, texts)
    with torch.device("meta"):
        return layout, Foundation(layout, experiment.model, experiment.training.batch_size)


@pytest.mark.parametrize("path", PAPERS, ids=lambda path: path.stem)
def test_a_paper_s_example_makes_a_model(path):
    experiment = load_experiment(path, kinds=KINDS)
    assert experiment.name == path.stem
    assert model_of(experiment)[1].dense.history is not None


def test_a_paper_s_example_has_what_the_paper_is_about():
    def made(name: str) -> tuple[Layout, History]:
        layout, model = model_of(load_experiment(ROOT / f"examples/papers/{name}.yaml", kinds=KINDS))
        return layout, model.dense.history

    assert made("dare")[0].attention
    assert made("fmrlrec")[1].objective.narrower == (16, 64)
    assert made("reg4rec")[1].objective.decoder.paths == 3
    reasoning = made("rearec")[1].encoder.reasoning
    assert (len(reasoning.steps), reasoning.config.learning, reasoning.places) == (2, "ensemble", None)
    assert len(made("onepiece")[1].encoder.reasoning.places) == 3


@pytest.mark.parametrize("path", CODED, ids=lambda path: path.stem)
def test_a_paper_s_example_finds_items_by_their_codes(path):
    experiment = load_experiment(path, kinds=KINDS)
    [(of, content)] = experiment.coded().items()
    assert experiment.model.target == of.content == path.stem  # whose store is beside those of the others
    layout, model = model_of(experiment)
    assert model.dense.history.objective.decoder.sizes == content.codes.sizes
    assert path.stem in model.dense.represent.encoder.owners["item"]
    assert layout.ids == (path.stem == "generec")


@pytest.mark.parametrize("path", PREFIXED, ids=lambda path: path.stem)
def test_a_paper_s_example_has_a_prefix(path):
    experiment = load_experiment(path, kinds=KINDS)
    assert tuple(model_of(experiment)[1].dense.history.prefix.places) == experiment.model.prefix


@pytest.mark.parametrize("path", CODED, ids=lambda path: path.stem)
def test_a_paper_s_example_tokenizes_items(path):
    method = load_experiment(path, kinds=KINDS).coded()[Stored("item", path.stem)].codes
    rng = np.random.default_rng(0)
    width = TEXT if isinstance(method, OfVectors) else PLACES
    vectors = torch.from_numpy(rng.standard_normal((300, width), np.float32))
    columns = pa.table({need.name: pa.array(rng.integers(0, 40, 300).astype(str)) for need in method.needs})
    items = Items(np.arange(300, dtype=np.uint64), lambda at: vectors[torch.from_numpy(at)], columns, 0)
    codes = method.codes(method.fit(items), items, np.arange(300))
    assert codes.shape == (300, len(method.values))
    assert ((codes >= 0) & (codes < np.array(method.values))).all()
    assert len(np.unique(codes, axis=0)) > 30


def test_every_paper_s_example_has_a_row_among_the_papers():
    named = re.findall(r"examples/papers/(\w+)\.yaml\)", (ROOT / "docs/papers.md").read_text())
    assert sorted(named) == [path.stem for path in PAPERS]
    assert len(PAPERS) >= 9


def times(rows: list[dict]) -> list:
    return [row["timestamp"] for row in rows]


def write(table: dict, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(table), path)


def test_the_minimal_example_runs_on_the_columns_the_readme_lists(tmp_path):
    shutil.copy(ROOT / "examples/minimal.yaml", tmp_path / "experiment.yaml")
    for split in ("train", "validation", "test"):
        events = {
            "user_id": ["a", "b", None],
            "item_id": [1, 2, 3],
            "history": pa.array([[2, 3], None, []], pa.list_(pa.int64())),
            "device": ["phone", None, "desk"],
            "clicked": [1, 0, 0],
            "bought": [True, None, None],
        }
        write(events, tmp_path / f"events/home/{split}/part.parquet")
        events |= {"query": ["red shoe", "hat", None], "sort_order": [0, 1, 0], "request_id": [7, 7, 8]}
        del events["bought"]
        write(events, tmp_path / f"events/search/{split}/part.parquet")
    items = {
        "item_id": [1, 2],
        "brand": ["x", None],
        "title": ["shoe", "hat"],
        "category": [5, 6],
        "price": [9.5, None],
    }
    write(items, tmp_path / "items.parquet")
    write({"query": ["red shoe", "hat"]}, tmp_path / "queries.parquet")
    out = io.StringIO()
    describe(load_experiment(tmp_path, kinds=KINDS), Console(file=out, width=200))
    said = out.getvalue()
    assert "{brand} {title}" in said
    assert "feature_sort_order" in said
    assert "item: no text vectors yet" in said


def test_movietweetings_is_prepared_as_its_example_expects(tmp_path):
    source, out = tmp_path / "source", tmp_path / "out"
    rng = np.random.default_rng(0)
    ratings = {
        "user_id": rng.integers(0, 5, 400),
        "movie_id": rng.integers(0, 40, 400),
        "rating": rng.integers(1, 11, 400),
        "timestamp": pa.array(rng.integers(0, 300, 400) * 1_000_000, pa.timestamp("us")),  # some at one moment
    }
    write(ratings, source / "ratings.parquet")
    films = {"movie_id": np.arange(40), "title": ["t"] * 40, "genres": ["A|B"] * 40, "year": np.full(40, 2000)}
    write(films, source / "movies.parquet")
    script = [sys.executable, ROOT / "examples/prepare_movietweetings.py", source, out]
    subprocess.run(script, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    shutil.copy(ROOT / "examples/movietweetings.yaml", out / "experiment.yaml")
    events = check_events(load_experiment(out, kinds=KINDS))["films"]
    assert [events[split].rows for split in ("train", "validation", "test")] == pytest.approx([320, 40, 40], abs=4)

    parts = [pq.read_table(out / f"events/{split}/part-0.parquet").to_pylist() for split in events]
    rows = [row for part in parts for row in part]
    assert all(max(times(earlier)) < min(times(later)) for earlier, later in pairwise(parts))
    liked = sorted((r["timestamp"], r["user_id"], r["movie_id"]) for r in rows if r["rating"] >= 8)
    for row in rows:
        past = [film for time, user, film in liked if user == row["user_id"] and time < row["timestamp"]]
        moments = {time for time, user, _ in liked if user == row["user_id"] and time < row["timestamp"]}
        assert row["liked"] == int(row["rating"] >= 8)
        assert len(row["history"]) == min(len(past), 30)
        if len(moments) == len(past):  # films liked at one moment may come in any order
            assert row["history"] == past[-30:]


def test_preferences_are_of_what_was_before_all_that_is_to_be_found(tmp_path):
    """Nothing that a place of a row for training finds, and no row's own item, is what its preference is made of."""
    rng = np.random.default_rng(0)
    titles = ["red shoe", "blue hat", "green tea", "old book", "new phone", "small chair", "big table", "warm coat"]
    rows = {
        "user_id": [f"u{n}" for n in range(80)],
        "item_id": np.full(80, 7),
        "history": pa.array([rng.permutation(7)[: n % 6].tolist() for n in range(80)], pa.list_(pa.int64())),
    }
    for split in ("train", "validation", "test"):
        write(rows, tmp_path / f"events/office/{split}/part.parquet")
    write({"item_id": np.arange(8), "title": titles}, tmp_path / "catalogs/items.parquet")
    script = [sys.executable, ROOT / "examples/preferences_from_pasts.py", tmp_path]
    subprocess.run(script, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    vectors = load_text_encoder(TextConfig()).encode(titles).vectors

    def preferred(row: dict, column: str = "preference") -> int | None:
        return None if row[column] is None else int((vectors @ np.array(row[column], np.float32)).argmax())

    pasts = dict(zip(rows["user_id"], rows["history"].to_pylist(), strict=True))
    cut = pq.read_table(tmp_path / "preferences/cut").to_pylist()
    assert [row["history"] for row in cut[:80]] == list(pasts.values())
    assert all(preferred(row) is None for row in cut[:80])
    assert len(cut) - 80 == sum(len(past) > 1 for past in pasts.values())
    for row in cut[80:]:
        older = pasts[row["user_id"]][: -len(row["history"])]
        assert preferred(row) in older
    whole = pq.read_table(tmp_path / "preferences/any").to_pylist()
    assert all(preferred(row) in (row["history"] or [None]) for row in whole)
    for row in pq.read_table(tmp_path / "preferences/test").to_pylist():
        assert preferred(row) is None
        assert preferred(row, "said") in (row["history"] or [None])
