"""The study's plan, how results are read and compared, and the report; runs are made up."""

import itertools
import zlib
from pathlib import Path

import numpy as np
import pytest

from foundrank.data.config.load import load_experiment
from foundrank.data.errors import UserError
from foundrank.data.simulation.worlds import simulate
from foundrank.dist.run.run_folder import write_json
from foundrank.dist.study import study
from foundrank.dist.study.arms import DATA_SETS, FRACTIONS, FULL, ID_ONLY, RATES, Arm, DataSet, arms
from foundrank.dist.study.datasets import prepare_data
from foundrank.dist.study.document import write_study
from foundrank.dist.study.results import difference, read_results
from foundrank.dist.study.runs import PREDICTIONS, RESULT, Task, overrides
from foundrank.model.kinds import KINDS

DATA = DataSet("simulated", None, "events_feed", 500)
DOMAINS = ("shop_feed", "events_feed")


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated data set, prepared for the study."""
    folder = tmp_path_factory.mktemp("study") / "data"
    simulate(folder / "simulated", rows=20_000)
    return prepare_data(DATA, None, folder, full=False)


def test_every_arm_is_an_experiment(experiment):
    loaded = load_experiment(experiment, kinds=KINDS)
    every = arms(DATA, list(loaded.domains), seeds=5)
    assert len({arm.name for arm in every}) == len(every)
    names = [arm.name for arm in every]
    for arm in every:
        assert arm.begins_from is None or names.index(arm.begins_from) < names.index(arm.name)
        base = Path("somewhere") if arm.begins_from else None
        of_arm = load_experiment(experiment, overrides(Task(DATA, experiment, arm, 3, 1.0, Path(), base)), kinds=KINDS)
        assert of_arm.seed == 3
        assert (of_arm.init_from is not None) == (arm.begins_from is not None)
        if arm.name == "pretrained":
            assert set(of_arm.domains) == set(loaded.domains) - {DATA.cold}


def test_data_sets_name_a_domain_of_theirs():
    assert len({data.name for data in DATA_SETS}) == len(DATA_SETS)
    with pytest.raises(UserError, match="has no folder 'completejourney'"):
        prepare_data(DATA_SETS[1], Path("nowhere"), Path("out"), full=False)


def test_fractions_are_parts_of_one_another_and_no_more_rows_than_allowed(experiment):
    import pyarrow.parquet as pq

    held = []
    for fraction in FRACTIONS:
        (path,) = (experiment.parent / "events" / DATA.cold / f"study-{fraction:.0%}").glob("*.parquet")
        held.append({(row["user"], row["item"], row["request"]) for row in pq.read_table(path).to_pylist()})
    assert all(a <= b for a, b in itertools.pairwise(held))
    assert len(held[0]) < len(held[-1])
    for path in experiment.parent.glob("events/*/study-*/*.parquet"):
        assert pq.read_metadata(path).num_rows <= 500


def made_up(folder: Path, arm: str, seed: int, rate: float, skill: float, validation: float) -> None:
    """An arm's predictions: half of the items never seen; ``skill`` is the weight of the truth among noise."""
    draw, noise = np.random.default_rng(7), np.random.default_rng(zlib.crc32(f"{arm} {seed}".encode()))
    rows = 1200
    labels = (draw.random((rows, 1)) < 0.4).astype(np.float32)
    columns = {
        "labels": labels,
        "mask": np.ones((rows, 1), bool),
        "probabilities": 1 / (1 + np.exp(-skill * labels - noise.normal(size=(rows, 1)))),
        "user": draw.integers(0, 200, rows).astype(np.uint64),
        "domain": np.repeat([0, 1], rows // 2),
        "item_counts": draw.choice([0.0, 3, 50, 200], rows),
        "probability/click": np.where(labels[:, 0] > 0, 0.9, 0.1),
        "domains": np.array(DOMAINS),
        "tasks": np.array(["click"]),
    }
    target = folder / "runs" / DATA.name / arm.replace(" ", "_") / f"seed-{seed}-rate-{rate:g}"
    target.mkdir(parents=True)
    np.savez(target / PREDICTIONS, **columns)
    write_json(target / RESULT, {"validation_auc": validation, "rate": rate})


@pytest.fixture
def results(tmp_path) -> Path:
    for arm, skill in ((FULL, 2.0), (ID_ONLY, 1.0), ("gate: mean", 2.0)):
        for rate, validation in zip(RATES, (0.6, 0.5, 0.7), strict=True):
            made_up(tmp_path, arm, 1, rate, skill if rate == 2 else 0.0, validation)
        made_up(tmp_path, arm, 2, 2.0, skill, 0.65)
    return tmp_path


def test_the_rate_that_won_on_validation_is_tested(results):
    found = read_results(DATA, [Arm(FULL), Arm("gate: mean"), Arm("absent")], results)
    assert set(found) == {FULL, "gate: mean"}
    assert (found[FULL].rate, found[FULL].seeds) == (2.0, 2)
    assert found[FULL].mean_auc()[0] > 0.85
    assert found[FULL].oracle_auc() == 1


def test_differences_have_intervals_on_the_rows_chosen(results):
    found = read_results(DATA, [Arm(FULL), Arm(ID_ONLY), Arm("gate: mean")], results)
    for chosen in (None, lambda surface: surface.item_counts == 0):
        gap, low, high = difference(found[FULL], found[ID_ONLY], chosen)
        assert 0 < low < gap < high
        wanted = found[FULL].mean_auc(chosen)[0] - found[ID_ONLY].mean_auc(chosen)[0]
        assert gap == pytest.approx(wanted, abs=1e-6)
    _, low, high = difference(found[FULL], found["gate: mean"])
    assert low < 0 < high
    assert np.isnan(difference(found[FULL], found[ID_ONLY], lambda s: s.item_counts > 999)[0])


def test_the_report_keeps_what_stands_outside_its_markers(results, experiment, tmp_path):
    (results / "data").mkdir()
    (results / "data" / "simulated").symlink_to(experiment.parent)
    doc = tmp_path / "docs" / "study.md"
    for _ in range(2):
        write_study(results, [DATA], 2, False, doc)
        text = doc.read_text()
        doc.write_text(text.replace("<!-- study -->", "By hand.\n\n<!-- study -->") if "By hand" not in text else text)
    text = doc.read_text()
    assert text.count("By hand.") == 1
    assert text.count("## simulated") == 1
    assert "| full model > id only, cold items | holds, +0." in text
    assert "| full model > gate: mean, all rows | undecided, " in text
    assert "the gap is" in text
    assert (tmp_path / "docs" / "study" / "simulated-item-counts.png").stat().st_size > 5000


def test_a_data_set_there_is_not(tmp_path):
    with pytest.raises(UserError, match="Did you mean 'simulated'"):
        study.run_study(tmp_path, None, ["simulate"], 2, 1, False, tmp_path / "doc.md")
