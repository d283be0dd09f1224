import io
from typing import Any

from rich.console import Console

from foundrank.dist.report.terminal_tables import print_evaluation, print_next_item
from foundrank.model.tasks.binary import MEASURES


def row(domain, task="click", part="all", **more: Any):
    return {
        "domain": domain, "task": task, "slice": part, "rows": 12_345_678, "auc": 0.7, "gauc": 0.65, "ndcg@10": None,
        "calibration": 1.234, "oracle_auc": 0.75, "popularity_auc": 0.6, **more,
    }  # fmt: skip


def printed(rows, width=100):
    out = io.StringIO()
    print_evaluation(rows, {row["task"]: MEASURES for row in rows}, Console(file=out, width=width, no_color=True))
    return [line.rstrip() for line in out.getvalue().splitlines() if line.strip()]


def test_a_line_per_domain_and_a_line_of_means():
    rows = [row("web_search") | {"ndcg@10": 0.5}, row("feed", auc=0.8)]
    rows += [row("feed", part="cold_items", auc=0.55), row("feed", part="warm_items", auc=0.11)]
    lines = [" ".join(line.split()) for line in printed(rows)]
    assert lines[0] == "click"
    assert lines[1] == "domain rows AUC oracle popular cold AUC GAUC NDCG@10 calib."
    assert lines[3:] == [
        "web_search 12,345,678 0.7000 0.7500 0.6000 – 0.6500 0.5000 1.234",
        "feed 12,345,678 0.8000 0.7500 0.6000 0.5500 0.6500 – 1.234",
        "mean 24,691,356 0.7500 0.7500 0.6000 0.5500 0.6500 0.5000",
    ]


def test_a_table_per_task_and_no_mean_of_one_domain():
    lines = [line.strip() for line in printed([row("feed"), row("feed", task="buy")])]
    assert [line for line in lines if line in ("click", "buy")] == ["click", "buy"]
    assert not any("mean" in line for line in lines)


def test_a_long_name_fits_in_100_columns_and_keeps_every_letter():
    lines = printed([row("z" * 64, auc=None), row("feed")])
    assert max(map(len, lines)) <= 100
    assert "".join(lines).count("z") == 64


def test_a_narrow_terminal_has_the_columns_that_have_numbers():
    rows = [row("a_domain_of_twenty_", oracle_auc=None), row("feed", oracle_auc=None)]
    lines = printed(rows, width=72)
    assert " ".join(lines[1].split()) == "domain rows AUC popular GAUC calib."
    assert max(map(len, lines)) <= 72
    assert lines[-1].split() == ["mean", "24,691,356", "0.7000", "0.6000", "0.6500"]


def test_names_are_not_markup():
    lines = printed([row("[red]x[/red]", task="[b]t[/b]")])
    assert lines[0].strip() == "[b]t[/b]"
    assert lines[3].split()[0] == "[red]x[/red]"


def test_the_next_item_says_of_how_many_in_each_domain_where_they_differ():
    metrics = ("hr@5", "hr@10", "hr@20", "ndcg@10", "mrr@10", "percentile", "popularity_hr@10")
    rows = [
        {"domain": domain, "slice": "all", "rows": 90, "items": items, **dict.fromkeys(metrics, 0.5)}
        for domain, items in (("home", 8), ("feed", 1500))
    ]

    def printed_next(rows):
        out = io.StringIO()
        print_next_item(rows, Console(file=out, width=100, no_color=True))
        return [" ".join(line.split()) for line in out.getvalue().splitlines() if line.strip()]

    lines = printed_next(rows)
    assert lines[0] == "next item, of 8 to 1,500"
    assert [line.split()[:4] for line in lines[-2:]] == [["home", "all", "90", "8"], ["feed", "all", "90", "1,500"]]
    same = printed_next(rows[:1])
    assert same[0] == "next item, of 8"
    assert same[-1].split()[:4] == ["home", "all", "90", "0.5000"]
