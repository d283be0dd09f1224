"""The study as a job: it pretrains, fine-tunes, compares, and does nothing twice."""

import re
from pathlib import Path

import numpy as np
import pytest

from foundrank.dist.run.run_folder import read_json
from foundrank.dist.study import datasets as study_data
from foundrank.dist.study import runs as study_runs
from foundrank.dist.study import study
from foundrank.dist.study.arms import FULL, PRETRAINED, Arm, DataSet
from tests.importer_sources import amazon_office_source

from .commands import TINY

DATA = DataSet("simulated", (), "events_feed", 400, (*TINY, "training.epochs=1", "model.aspects=[id, sparse]"))


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A study of one small data set and four arms, at one rate."""
    thin = "only=[events_feed]"
    chosen = [
        Arm(PRETRAINED, ("only=[shop_feed, video_feed]",)),
        Arm("full model"),
        Arm("single domain, 100%", (thin,)),
        Arm("fine-tuned L0+L1 frozen, 100%", (thin, "training.freeze=[L0, L1]"), begins_from=PRETRAINED),
    ]
    monkeypatch.setattr(study, "DATA_SETS", (DATA,))
    monkeypatch.setattr(study_runs, "RATES", (1.0,))
    monkeypatch.setattr(study, "arms", lambda *_: chosen)
    monkeypatch.setattr(study_data, "_ROWS_SIMULATED", 20_000)
    monkeypatch.setattr(study.subprocess, "run", lambda *_, **__: None)  # no texts here


def test_a_study_compares_and_does_nothing_twice(small, tmp_path: Path):
    doc = tmp_path / "study.md"
    study.run_study(tmp_path / "out", None, [], 2, 2, False, doc)
    results = sorted((tmp_path / "out" / "runs").glob("*/*/*/result.json"))
    assert len(results) == 8
    assert all(read_json(path)["validation_auc"] for path in results)
    kept = {path.parent.parent.parent.name for path in (tmp_path / "out").rglob("checkpoints")}
    assert kept == {PRETRAINED}
    text = doc.read_text()
    assert re.search(r"Measured \d{4}-\d\d-\d\d.* with foundrank \d+\.\d+.*, 2 seeds, at most 400 rows", text)
    assert "Not " not in text
    assert (tmp_path / "study" / "simulated.json").is_file()
    assert "fine-tuned L0+L1 frozen > single domain, 100% of its rows" in text
    before = {path: path.stat().st_mtime_ns for path in results}
    study.run_study(tmp_path / "out", None, [], 2, 1, False, doc)
    assert {path: path.stat().st_mtime_ns for path in results} == before
    assert doc.read_text() == text


def test_a_study_ranks_next_items_new_ones_too(small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    amazon_office_source(tmp_path / "sources" / "amazon_office")
    settings = ("training.epochs=1", "model.width=16", "model.embedding_dim=8", "model.aspects=[id]")
    data = DataSet("amazon-office", ("amazon_office",), None, settings=settings)
    monkeypatch.setattr(study, "DATA_SETS", (data,))
    monkeypatch.setattr(
        study, "arms", lambda *_: [Arm(FULL), Arm("smoothed", ("model.next_item.label_smoothing=0.2",), tunes=False)]
    )
    doc = tmp_path / "study.md"
    study.run_study(tmp_path / "out", tmp_path / "sources", [], 2, 2, False, doc)
    folders = sorted(path.parent for path in (tmp_path / "out" / "runs").glob("*/*/*/result.json"))
    assert len(folders) == 4
    assert all(read_json(folder / "result.json")["validation_auc"] for folder in folders)
    kept = np.load(folders[0] / "predictions.npz")
    assert (kept["item_counts"][kept["chosen"]] == 0).sum() > 10
    assert kept["percentile"].max() <= 1
    assert "test rows, " in doc.read_text()
    assert not list((tmp_path / "out").rglob("checkpoints"))
