"""What has been measured of each data set: files beside the report, from which alone it is drawn; runs are made up."""

import json
import math
import re
import shutil
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from foundrank.data.errors import UserError
from foundrank.dist.run.run_folder import write_json
from foundrank.dist.study import study
from foundrank.dist.study.arms import FRACTIONS, FULL, ID_ONLY, SINGLE, Arm, DataSet, arms
from foundrank.dist.study.directions import PAPER, interval
from foundrank.dist.study.document import kept_beside, write_study
from foundrank.dist.study.kept import RESULT
from foundrank.dist.study.measured import MeasuredLabels, read_measured, write_measured
from foundrank.dist.study.next_item import NDCG, PERCENTILE, gap, read_found
from foundrank.dist.study.results import cold_items, difference, read_results, warm_items

from .test_study import DATA, DOMAINS, NEXT, made_up, ranked

MISSING, BEGUN = "gate: mean", "head: star"
OF_LABELS = (ID_ONLY, "text: random", "text: none", BEGUN, "alignment: mmd")
OF_SHARES = (
    "single domain, 5%",
    "all domains, 5%",
    "fine-tuned full, 5%",
    "fine-tuned L0+L1 frozen, 5%",
    "single domain, 100%",
)


def measure(data: DataSet, out: Path, doc: Path) -> None:
    """As the command does once trainings have ended."""
    found = study.measured(data, arms(data, list(DOMAINS), 2), out, 2, 500)
    assert found is not None
    write_measured(found, kept_beside(doc))
    write_study(doc, [DATA, NEXT])


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study's folder with the simulated data set: one arm is missing, and one has a seed less than it is to have."""
    out = tmp_path_factory.mktemp("labels")
    for number, arm in enumerate((FULL, *OF_LABELS, *OF_SHARES)):
        for seed in (1,) if arm == BEGUN else (1, 2):
            made_up(out, arm, seed, 2.0, 2 - number / 8, 0.5)
    for seed, day in ((1, "2026-11-28"), (2, "2026-12-01")):
        (path,) = out.glob(f"runs/*/full_model/seed-{seed}-*/{RESULT}")
        write_json(path, json.loads(path.read_text()) | {"version": f"0.{seed}", "day": day})
    return out


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another study's folder, with a data set in which the next item is sought."""
    out = tmp_path_factory.mktemp("ranks")
    for arm, skill in ((FULL, 2.0), (ID_ONLY, 1.0), ("text: random", 1.9), ("text: none", 0.0)):
        for seed in (1, 2):
            ranked(out, arm, seed, 1.0, skill, 0.5)
    return out


def rows_of(text: str, first: str) -> list[list[str]]:
    """The tables' lines that begin with a cell, as cells."""
    lines = [line for line in text.splitlines() if line.startswith(f"| {first} |")]
    return [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines]


def section(text: str, data: DataSet) -> str:
    return re.split(r"\n(?=## |<!-- /)", text[text.index(f"\n## {data.name}\n") + 1 :])[0].rstrip() + "\n"


def verdict(of_gap: tuple[float, float, float]) -> str:
    word = "holds" if of_gap[1] > 0 else "reversed" if of_gap[2] < 0 else "undecided"
    return f"{word}, {of_gap[0]:+.4f}".replace("-", "−")


def test_a_section_says_of_labels_what_the_predictions_say(labels, tmp_path):
    doc = tmp_path / "study.md"
    measure(DATA, labels, doc)
    text = doc.read_text()
    found = read_results(DATA, arms(DATA, list(DOMAINS), 2), labels)
    full = found[FULL]
    for name in OF_LABELS:
        of_arm = found[name]
        all_rows, cold, warm = (difference(full, of_arm, rows) for rows in (None, cold_items, warm_items))
        aucs = [f"{of_arm.mean_auc(rows)[0]:.4f}" for rows in (None, cold_items)]
        wanted = [name, "2", aucs[0], interval(all_rows), aucs[1], interval(cold), interval(warm)]
        assert rows_of(section(text, DATA), name) == [wanted]
        assert rows_of(text, f"full model > {name}, all rows")[0][1] == verdict(all_rows)
        assert rows_of(text, f"full model > {name}, cold items")[0][1] == verdict(cold)
    new = DATA.cold
    single = found["single domain, 5%"]
    gaps = {name: difference(found[name], single, domain=new) for name in OF_SHARES[1:4]}
    for name, of_gap in gaps.items():
        line = name.removesuffix(", 5%")
        mean = f"{found[name].mean_auc(domain=new)[0]:.4f} ({interval(of_gap)})"
        assert rows_of(section(text, DATA), line)[0][2] == mean
        assert rows_of(text, f"{line} > single domain, 5% of its rows")[0][1] == verdict(of_gap)
    # With all rows the model of all domains is the full one.
    whole = difference(full, found["single domain, 100%"], domain=new)
    assert rows_of(text, "all domains")[0][-1] == f"{full.mean_auc(domain=new)[0]:.4f} ({interval(whole)})"
    assert rows_of(text, SINGLE)[0][1:] == [
        f"{found[name].mean_auc(domain=new)[0]:.4f}" if name in found else "–"
        for name in (f"{SINGLE}, {fraction:.0%}" for fraction in FRACTIONS)
    ]
    asked = [one for one in PAPER if {one.first, one.second} <= set(found)]
    assert len(asked) > 5
    for one in asked:
        rows, domain = (cold_items if one.rows == "cold items" else None), (new if one.rows == "new domain" else None)
        of_gap = difference(found[one.first], found[one.second], rows, domain)
        assert rows_of(text, one.said)[0][1] == verdict(of_gap)
    assert "On cold items the true probabilities reach 1.0000" in section(text, DATA)


def test_a_section_says_of_next_items_what_the_ranks_say(ranks, tmp_path):
    doc = tmp_path / "study.md"
    measure(NEXT, ranks, doc)
    text = doc.read_text()
    found = read_found(NEXT, arms(NEXT, ["office"], 2), ranks)
    full = found[FULL]
    cold = full.item_counts == 0
    for name in (ID_ONLY, "text: random", "text: none"):
        of_arm = found[name]
        of_all = gap(full, of_arm, NDCG, lambda one: np.ones(len(one.users), bool))
        of_cold = gap(full, of_arm, PERCENTILE, lambda one: one.item_counts == 0)
        means = [of_arm.mean(NDCG, cold | True), of_arm.mean(PERCENTILE, cold), of_arm.mean(NDCG, cold)]
        ndcg, percentile, cold_ndcg = (f"{mean:.4f}" for mean in means)
        wanted = [name, "1", ndcg, interval(of_all), percentile, interval(of_cold), cold_ndcg]
        assert rows_of(section(text, NEXT), name) == [wanted]
        assert rows_of(text, f"full model > {name}, cold items")[0][1] == verdict(of_cold)
    assert f"900 test rows, {cold.sum()} of items that training has not seen." in text


def test_a_section_says_how_it_was_measured_and_what_is_not_yet(labels, tmp_path):
    doc = tmp_path / "study.md"
    measure(DATA, labels, doc)
    text = section(doc.read_text(), DATA)
    assert "Measured 2026-11-28 to 2026-12-01 with foundrank 0.1 and 0.2 and of a version that was not noted" in text
    assert ", 2 seeds, at most 500 rows of each domain's training, validation and test.\n" in text
    (missing,) = re.findall("Not measured yet: (.*)", text)
    assert MISSING in missing.split("; ")
    assert not {FULL, BEGUN, *OF_LABELS, *OF_SHARES} & set(missing.rstrip(".").split("; "))
    assert f"Not with all seeds yet: {BEGUN} (1 of 2).\n" in text


def test_seeds_are_those_that_are_there_and_rows_those_of_the_data(labels):
    found = study.measured(DATA, [Arm(FULL)], labels, 1, 0)
    assert isinstance(found, MeasuredLabels)
    assert (found.on.seeds, found.arms[FULL].seeds, found.on.rows) == (2, 2, 0)


def test_a_data_set_that_is_measured_elsewhere_leaves_the_others_in_place(labels, ranks, tmp_path):
    doc = tmp_path / "study.md"
    measure(DATA, labels, doc)
    of_first, kept = section(doc.read_text(), DATA), (tmp_path / "study/simulated.json").read_bytes()
    measure(NEXT, ranks, doc)  # a study's folder that knows nothing of the first
    text = doc.read_text()
    assert section(text, DATA) == of_first
    assert (tmp_path / "study/simulated.json").read_bytes() == kept
    assert "| direction | simulated | amazon-office |" in text
    by_arm = rows_of(text, "full model > text: none, all rows")[0]
    assert by_arm[1:] != ["–", "–"]
    assert "–" not in by_arm
    assert rows_of(text, f"full model > {BEGUN}, all rows")[0][2] == "–"
    assert text.index("## simulated") < text.index("## amazon-office")
    # In the order of the study, whichever was measured first.
    other = tmp_path / "other" / "study.md"
    measure(NEXT, ranks, other)
    measure(DATA, labels, other)
    assert other.read_text() == text


def test_measured_again_a_data_set_is_what_its_new_folder_holds(labels, ranks, tmp_path):
    doc = tmp_path / "study.md"
    measure(DATA, labels, doc)
    measure(NEXT, ranks, doc)
    of_next = section(doc.read_text(), NEXT)
    again = tmp_path / "again"
    shutil.copytree(labels, again)
    shutil.rmtree(again / "runs/simulated/text:_none")
    measure(DATA, again, doc)
    text = doc.read_text()
    assert section(text, NEXT) == of_next
    assert not rows_of(section(text, DATA), "text: none")
    assert "text: none" in re.findall("Not measured yet: (.*)", section(text, DATA))[0]


def test_nothing_is_measured_before_the_full_model_is_done(labels, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(labels, out)
    every = arms(DATA, list(DOMAINS), 2)
    assert study.measured(DATA, every, out, 2, 500) is not None
    shutil.rmtree(next(out.glob("runs/*/full_model/seed-2*")))
    assert study.measured(DATA, every, out, 2, 500) is None


def test_what_is_read_back_is_what_was_measured_also_what_is_not_known(labels, tmp_path):
    found = study.measured(DATA, arms(DATA, list(DOMAINS), 2), labels, 2, 500)
    assert isinstance(found, MeasuredLabels)
    assert math.isnan(found.arms[BEGUN].all[1])  # the error, of one seed
    write_measured(found, tmp_path)
    (again,) = read_measured(tmp_path, [DATA])
    assert isinstance(again, MeasuredLabels)
    assert again.model_dump_json() == found.model_dump_json()
    assert math.isnan(again.arms[BEGUN].all[1])
    assert list(again.arms) == list(found.arms)
    assert "NaN" not in (tmp_path / "simulated.json").read_text()


@pytest.mark.parametrize(
    ("name", "change", "told"),
    [
        ("simulated", lambda _: "{", "not valid JSON"),
        ("simulated", lambda _: '{"rows": []}', r"is damaged \(data: Field required\)"),
        ("simulated", lambda text: text.replace('"rate": 2.0', '"rate": "2"'), r"is damaged \(arms.full model.rate"),
        ("simulated", lambda text: text.replace('"full model":', '"fool model":'), "without 'full model'"),
        ("simulated", lambda text: re.sub(r'(?<="lead")(.*?)"warm"', r'\1"hot"', text), r"lead.warm: Field required"),
        ("simulated", lambda text: text.replace('"data": "simulated"', '"data": "other"'), "is of data set 'other'"),
        ("amazon-office", lambda text: text, "is damaged"),
        ("speed", lambda text: text, "is of no data set of the study"),
    ],
)
def test_a_file_that_is_not_the_studys_is_named_and_nothing_is_written(labels, tmp_path, name, change, told):
    doc = tmp_path / "study.md"
    measure(DATA, labels, doc)
    before = doc.read_text()
    path = tmp_path / "study" / f"{name}.json"
    path.write_text(change((tmp_path / "study/simulated.json").read_text()))
    with pytest.raises(UserError, match=told) as error:
        write_study(doc, [DATA, NEXT])
    assert str(path) in str(error.value)
    assert doc.read_text() == before
    with pytest.raises(UserError, match=told):  # the command tells it before it trains
        study.run_study(tmp_path / "out", None, ["simulated"], 2, 1, False, doc)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda text: text.replace("<!-- /study -->", "").encode(), "<!-- study --> or <!-- /study --> without"),
        (lambda text: text.encode("utf-16"), "is not a text file in UTF-8"),
    ],
)
def test_a_damaged_report_is_told_before_anything_is_trained(labels, tmp_path, monkeypatch, change, told):
    doc = tmp_path / "study.md"
    measure(DATA, labels, doc)
    doc.write_bytes(change(doc.read_text()))
    monkeypatch.setattr(study, "prepare_data", lambda *_: pytest.fail("has begun"))
    with pytest.raises(UserError, match=told) as error:
        study.run_study(tmp_path / "out", None, ["simulated"], 2, 1, False, doc)
    assert str(doc) in str(error.value)
    assert not (tmp_path / "out").exists()


def test_a_figure_is_the_old_one_until_the_new_one_is_whole(labels, tmp_path, monkeypatch):
    doc = tmp_path / "study.md"
    measure(DATA, labels, doc)
    figures = {path: path.read_bytes() for path in (tmp_path / "study").glob("*.png")}
    assert len(figures) == 2

    def cut_short(figure: Figure, to: Any, **_: Any) -> None:
        (to.write if isinstance(to, BytesIO) else to.write_bytes)(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(Figure, "savefig", cut_short)
    with pytest.raises(KeyboardInterrupt):
        write_study(doc, [DATA])
    assert {path: path.read_bytes() for path in figures} == figures
