import io

import pytest
from rich.console import Console

from foundrank.dist.tables import print_evaluation


def row(domain, task="click", part="all", **more):
    return {
        "domain": domain, "task": task, "slice": part, "rows": 12_345_678, "auc": 0.7, "gauc": 0.65, "ndcg@10": None,
        "calibration": 1.234, "oracle_auc": 0.75, "popularity_auc": 0.6, **more,
    }  # fmt: skip


def printed(rows):
    out = io.StringIO()
    print_evaluation(rows, Console(file=out, width=100, no_color=True))
    return [line.rstrip() for line in out.getvalue().splitlines() if line.strip()]


def test_a_line_per_domain_and_a_line_of_means():
    rows = [row("web_search", auc=0.7, **{"ndcg@10": 0.5}), row("feed", auc=0.8)]
    rows += [row("feed", part="cold_items", auc=0.55), row("feed", part="warm_items", auc=0.11)]
    title, header, rule, first, second, _, mean = printed(rows)
    assert title.strip() == "click"
    assert header.split() == "domain rows AUC oracle popularity cold AUC GAUC NDCG@10 calib.".split()
    assert set(rule.strip()) == {"─"}
    assert first.split() == "web_search 12,345,678 0.7000 0.7500 0.6000 – 0.6500 0.5000 1.234".split()
    assert second.split() == "feed 12,345,678 0.8000 0.7500 0.6000 0.5500 0.6500 – 1.234".split()
    assert mean.split() == "mean 24,691,356 0.7500 0.7500 0.6000 0.5500 0.6500 0.5000".split()


def test_a_table_per_task_and_no_mean_of_one_domain():
    lines = printed([row("feed"), row("feed", task="buy")])
    assert [line.strip() for line in lines if line.strip() in ("click", "buy")] == ["click", "buy"]
    assert not any("mean" in line for line in lines)


@pytest.mark.parametrize("domain", ["a" * 64, "[red]not markup[/red]"])
def test_fits_in_100_columns_and_loses_nothing(domain):
    lines = printed([row(domain, auc=None), row("feed")])
    assert max(map(len, lines)) <= 100
    assert "".join(line[: line.find("  ")].strip() if "  " in line.strip() else line.strip() for line in lines).count(
        domain[:20]
    ) or domain in "".join(lines)
    assert "…" not in "".join(lines)
