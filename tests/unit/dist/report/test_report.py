import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from foundrank.data.errors import UserError
from foundrank.dist.report.report import write_report

DOMAINS = ("web_search", "new_surface")
TASKS = ("click", "conversion")
EVIL = "<script>alert('x')</script>&\"$y_1$"
VOID = {"meta", "br", "img", "hr", "path", "use", "rect"}


class Page(HTMLParser):
    """Collects words and references, and checks that every element is closed by its own tag."""

    def __init__(self, source: str):
        super().__init__()
        self.words: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.open: list[str] = []
        self.feed(source)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.ids += [value or "" for name, value in attrs if name == "id"]
        self.links += [value or "" for name, value in attrs if name in ("href", "src", "xlink:href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data.strip())


def row(domain, task, part="all", positives=120, **more):
    return {
        "domain": domain, "task": task, "slice": part, "rows": 4321, "positives": positives, "auc": 0.7123, "gauc": 0.6512,
        "logloss": 0.2345, "ne": 0.9123, "calibration": 1.0321, "ndcg@10": None, "oracle_auc": 0.7654,
        "popularity_auc": 0.6321, **more,
    }  # fmt: skip


def step(number, **more):
    losses = {f"{d}/{t}": 0.5 / (1 + number / 100) for d in DOMAINS for t in TASKS}
    return {
        "step": number, "epoch": number / 100, "loss": 1.0, "losses": losses, "alignment": 0.1, "samples_per_s": 4e4,
        "data_wait_share": 0.02, "lr": 1e-3, "sparse_lr": 0.05, "gradient_norm": 1.5, **more,
    }  # fmt: skip


def write_json(path: Path, value) -> None:
    path.write_text(json.dumps(value))


@pytest.fixture
def run(tmp_path):
    return fill(tmp_path)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    return write_report(fill(tmp_path_factory.mktemp("run")))


def fill(run: Path) -> Path:
    (run / "experiment.yaml").write_text(
        "name: my_surfaces\ndomains:\n" + "".join(f"  {d}: {{cold: {str('new' in d).lower()}}}\n" for d in DOMAINS)
    )
    parts = ("all", "warm_items", "cold_items", "cold_users")
    rows = [row(d, t, part) for d in DOMAINS for t in TASKS for part in parts]
    gates = {d: {"user": {"id": 0.61, "text": 0.39}, "item": {"id": 0.27, "text": 0.73}} for d in DOMAINS}
    write_json(run / "evaluation.json", {"split": "test", "rows": rows, "gates": gates})
    epochs = [row(d, t, epoch=e, step=100 * e) for d in DOMAINS for t in TASKS for e in (1, 2)]
    write_json(run / "validation.json", {"rows": epochs})
    (run / "metrics.jsonl").write_text("".join(json.dumps(step(s)) + "\n" for s in range(20, 220, 20)))
    tables = {"id_item": {"rows": 1234, "dim": 32}, "id_user": {"rows": 99, "dim": 32}}
    info = {
        "parameters": 65432,
        "tables": tables,
        "world_size": 2,
        "plan": "id_item row_wise",
        "seconds": 725,
        "rows": 9,
    }
    write_json(run / "run.json", info)
    return run


def test_shows_the_whole_run(report):
    assert report.name == "report.html"
    words = Page(report.read_text()).words
    assert "my_surfaces" in words
    for name in (*DOMAINS, *TASKS, "cold items", "cold users"):
        assert name in words
    for number in ("0.7123", "0.7654", "0.6321", "0.6512", "0.2345", "0.9123", "1.0321", "4,321"):
        assert number in words
    assert "id 0.27 · text 0.73" in words
    assert "60 %" in words  # (0.7123 - 0.6321) / (0.7654 - 0.6321)
    assert "12 min 5 s" in words
    assert "39,488" in words  # weights of the item table
    assert "id_item row_wise" in words
    assert words.count("cold") == len(TASKS)  # the mark of the one cold domain, per table
    assert not any("Not evaluated" in word for word in words)


def test_every_figure_is_drawn_from_its_own_file(run, report):
    assert Page(report.read_text()).tags.count("svg") == 7
    for name, drawn in (("metrics.jsonl", 4), ("validation.json", 3), ("evaluation.json", 0)):
        (run / name).unlink()
        assert Page(write_report(run).read_text()).tags.count("svg") == drawn


def test_a_run_that_finds_the_next_item_says_how_often_and_leaves_out_what_is_of_tasks(tmp_path):
    found = {
        f"{prefix}{name}@{k}": 0.25
        for prefix in ("", "popularity_")
        for name in ("hr", "ndcg", "mrr")
        for k in (5, 10, 20)
    }
    rows = [
        {"domain": "beauty", "slice": part, "rows": 7, "items": 1234, **found, "hr@10": 0.5}
        for part in ("all", "cold_items")
    ]
    write_json(tmp_path / "evaluation.json", {"split": "test", "rows": [], "gates": {}, "next_item": rows})
    write_json(
        tmp_path / "validation.json", {"rows": [], "next_item": [{**rows[0], "step": e, "epoch": e} for e in (1, 2)]}
    )
    page = Page(write_report(tmp_path).read_text())
    words = " ".join(page.words)
    for expected in (
        "The next item",
        "next item in beauty · HR@10",
        "0.5000",
        "among 1,234 items",
        "cold items",
        "NDCG@10",
    ):
        assert expected in words, expected
    assert "AUC per domain" not in words
    assert page.tags.count("svg") == 1  # the validation curve
    write_json(
        tmp_path / "evaluation.json", {"split": "test", "rows": [row("shop", "click")], "gates": {}, "next_item": rows}
    )
    both = " ".join(Page(write_report(tmp_path).read_text()).words)
    assert "AUC per domain" in both
    assert "The next item" in both
    of_domains = [rows[0], {**rows[0], "domain": "shop", "items": 77}]
    write_json(tmp_path / "evaluation.json", {"split": "test", "rows": [], "gates": {}, "next_item": of_domains})
    apart = Page(write_report(tmp_path).read_text()).words
    assert "among 77 to 1,234 items" in " ".join(apart)
    assert {"among", "77", "1,234"} <= set(apart)


def test_stands_alone(report):
    source = report.read_text()
    page = Page(source)
    assert "http" not in source
    assert "@import" not in source
    assert not {"script", "link", "iframe", "img"} & set(page.tags)
    assert all(link.startswith("#") for link in page.links)
    assert {link[1:] for link in page.links} <= set(page.ids)
    assert all(found in page.ids for found in re.findall(r"url\(#([^)]*)\)", source))
    assert len(page.ids) == len(set(page.ids))
    assert not [path for path in report.parent.iterdir() if "tmp" in path.name]


def test_nothing_in_the_run_becomes_markup(run):
    evil = {EVIL: {EVIL: {EVIL: 1.0}}}
    write_json(
        run / "evaluation.json", {"split": EVIL, "rows": [row(EVIL, EVIL, EVIL), row(EVIL, EVIL)], "gates": evil}
    )
    write_json(run / "validation.json", {"rows": [row(EVIL, EVIL, epoch=1)]})
    write_json(run / "run.json", {"tables": {EVIL: {"rows": 1, "dim": 4}}, "plan": EVIL})
    (run / "metrics.jsonl").write_text(json.dumps(step(20, losses={EVIL: 0.5})) + "\n")
    (run / "experiment.yaml").write_text(json.dumps({"name": EVIL}))
    source = write_report(run).read_text()
    assert "<script" not in source
    assert "alert(" in source
    assert EVIL in Page(source).words


def test_an_empty_run_says_what_is_missing(tmp_path):
    run = tmp_path / "just_started"
    run.mkdir()
    words = " ".join(Page(write_report(run).read_text()).words)
    assert "just_started" in words
    for missing in ("Not evaluated yet", "No training step logged yet", "Not evaluated on a validation split"):
        assert missing in words


def test_undefined_metrics_are_dashes(run):
    undefined = dict.fromkeys(("auc", "gauc", "ne", "calibration", "oracle_auc", "popularity_auc"))
    write_json(run / "evaluation.json", {"rows": [row("web_search", "click", **undefined)]})
    write_json(run / "validation.json", {"rows": [row("web_search", "click", epoch=1, **undefined)]})
    (run / "metrics.jsonl").write_text(json.dumps(step(20, loss=float("nan"), losses={})) + "\n")
    words = Page(write_report(run).read_text()).words
    assert "–" in words
    assert "none logged" in words
    assert "Not evaluated on a validation split." in words


def test_a_killed_and_resumed_job_reads_well(tmp_path):
    lines = [json.dumps(step(s)) for s in (20, 40, 4_000)] + ['{"step": 4020, "lo', "[1]"]
    lines += [json.dumps(step(s)) for s in (40, 60)]  # resumed from step 20
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    words = [word for word in Page(write_report(tmp_path).read_text()).words if word]
    assert "Lines of metrics.jsonl that could not be read and are left out: 2." in words
    assert words[words.index("steps") + 1] == "4,000"


def test_long_names_keep_a_panel_each(tmp_path):
    losses = {f"a_domain_with_a_{middle}_long_name/click": 0.5 for middle in ("very", "truly")}
    (tmp_path / "metrics.jsonl").write_text(json.dumps(step(20, losses=losses)))
    words = Page(write_report(tmp_path).read_text()).words
    assert words.count("a_domain_with…ng_name/click") == 2


def test_a_long_run_stays_a_small_file(tmp_path):
    lines = [json.dumps(step(s, loss=s % 7, losses={"a/b": s % 5})) for s in range(20_000)]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines))
    assert write_report(tmp_path).stat().st_size < 400_000


def test_no_run_and_broken_files_are_named(run, tmp_path):
    with pytest.raises(UserError, match="no such run folder"):
        write_report(tmp_path / "nowhere")
    (run / "evaluation.json").write_text('{"rows": [')
    with pytest.raises(UserError, match=r"evaluation\.json: not valid JSON"):
        write_report(run)
    assert not (run / "report.html").exists()
