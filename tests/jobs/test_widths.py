"""One training, models of several widths."""

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

from foundrank import load
from tests.importer_sources import amazon_beauty_source

from .commands import Here, foundrank
from .test_bad_input import check_told
from .test_next_item import SMALL


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("widths")
    foundrank("import", "amazon-beauty", amazon_beauty_source(folder / "source", users=300), folder / "data")
    return folder / "data"


@pytest.fixture(scope="module")
def run(data: Path) -> Path:
    """A run that finds items by 4, 8 and 16 numbers."""
    run = data.parent / "run"
    changes = f"{SMALL}; model.next_item.widths=[4, 8, 16]"
    foundrank("train", data, "--run-dir", run, "-p", 2, "--set", changes)
    return run


def found_by(here: Here, run: Path, *options: object) -> tuple[dict[str, Any], dict[str, Any]]:
    """The protocol, and how well items are found, all rows."""
    status, told = here("evaluate", run, *options)
    assert status == 0, told
    found = json.loads((run / "evaluation.json").read_text())
    return found["protocol"], next(row for row in found["next_item"] if row["slice"] == "all")


def test_each_width_finds_items(run: Path, here: Here):
    whole, wide = found_by(here, run, "-p", 1)
    assert "width" not in whole
    for width in (4, 8, 16):
        told, row = found_by(here, run, "--width", width, "-p", 1)
        assert told["width"] == width
        assert row["ndcg@10"] > 1.5 * row["popularity_ndcg@10"]
        assert width != 16 or row == wide
    foundrank("evaluate", run, "--width", 4, "-p", 2)
    on_two = json.loads((run / "evaluation.json").read_text())
    assert on_two["next_item"][0]["mrr@10"] == pytest.approx(found_by(here, run, "--width", 4, "-p", 1)[1]["mrr@10"])


def test_a_width_recommends_by_the_leading_numbers(run: Path, data: Path, tmp_path: Path, here: Here):
    users = data / "events" / "beauty" / "test"
    assert here("recommend", run, users, tmp_path / "four", "-k", 5, "--width", 4)[0] == 0
    assert here("recommend", run, users, tmp_path / "whole", "-k", 5)[0] == 0
    four, whole = (pq.read_table(tmp_path / name) for name in ("four", "whole"))
    assert not four["items"].equals(whole["items"])
    scorer = load(run)
    table = pq.read_table(users)
    assert scorer.recommend(table, 5).equals(whole)
    mine = scorer.recommend(table, 5, width=4)
    assert mine.equals(four)
    assert scorer.recommend(table, 5).equals(whole)
    # As a model would that had learned no other numbers.
    retriever = scorer._retriever
    vectors = retriever._vectors[:, :4]
    at = retriever.place_of_keys(mine["items"].combine_chunks().values.to_numpy().view("uint64"))
    scores = torch.from_numpy(mine["scores"].combine_chunks().values.to_numpy().copy())
    states = torch.linalg.lstsq(vectors[at[:5]].double(), scores[:5].double()).solution
    torch.testing.assert_close(vectors[at[:5]].double() @ states, scores[:5].double(), rtol=1e-4, atol=1e-4)


def test_compared_with_a_run_of_that_width(run: Path, data: Path, tmp_path: Path, here: Here):
    narrow = tmp_path / "narrow"
    foundrank("train", data, "--run-dir", narrow, "--set", f"{SMALL}; model.width=4; training.epochs=2")
    status, told = here("compare", run, narrow, "--width", 4, "--draws", 100)
    assert status == 0, told
    check_told(here("compare", run, narrow, "--width", 8), ["--width", "trained to be used with 4"])


def test_mistakes(run: Path, data: Path, tmp_path: Path, here: Here):
    users = data / "events" / "beauty" / "test"
    check_told(here("evaluate", run, "--width", 5), ["--width", "is 5", "used with 4, 8, 16"])
    check_told(here("recommend", run, users, tmp_path / "out", "--width", 5), ["--width", "is 5"])
    with pytest.raises(Exception, match="is 5, and"):
        load(run).recommend(pq.read_table(users), 5, width=5)
    wrong = f"{SMALL}; model.next_item.widths=[4, 8]"
    check_told(here("train", data, "--run-dir", tmp_path / "no", "--set", wrong), ["end with 8, and model.width"])
    done = Path(shutil.copytree(run, tmp_path / "run"))
    assert here("recommend", done, users, tmp_path / "out", "--width", 4)[0] == 0
    check_told(here("recommend", done, users, tmp_path / "out", "--width", 8), ["width"])
