import subprocess

import pytest
import torch

from benchmarks import roofline
from benchmarks.growth import WORKLOAD, _link
from benchmarks.jobs import run_watched
from benchmarks.speed import FAST, LINES, PLAIN, STEP, WHOLE, section


def test_rates_are_compared_within_a_round():
    rates = {name: [300.0, 200.0, 100.0] for name in LINES}
    rates[WHOLE] = [600.0, 500.0, 400.0]
    parts = {"checks": 1.0, "command to first step": 9.0}
    kept = {"rates": rates, "startup_s": [parts] * 3, "machine": [{"copy": 7.0}] * 3, "cores": 2}
    lines = section(kept, 3).splitlines()
    (line,) = [line for line in lines if line.startswith(f"| {WHOLE}")]
    assert line == f"| {WHOLE} | 500 | 400–600 | 2.50 (2.00–4.00) × {PLAIN} |"
    shares = "2.50 (2.00–4.00); ÷ step beside a bare decode: 2.50 (2.00–4.00)."
    assert f"End to end ÷ step alone, plain MMoE, {FAST}: {shares}" in lines
    assert {f"step alone, plain MMoE, {precision}" for precision in ("fp32", FAST)} <= {STEP, *LINES}


@pytest.mark.parametrize(("share", "links"), [(0.5, 2), (1, 4), (2.5, 10)])
def test_larger_inputs_are_the_same_files_over_and_over(tmp_path, share, links):
    (tmp_path / "few").mkdir()
    for name in "abcd":
        (tmp_path / "few" / f"{name}.parquet").write_text(name)
    _link(tmp_path / "few", tmp_path / "many", int(WORKLOAD * share))
    assert "".join(path.read_text() for path in sorted((tmp_path / "many").iterdir())) == ("abcd" * 3)[:links]


def test_a_watched_job_tells_what_it_printed_and_held():
    said, memory = run_watched("schema", "--markdown")
    assert said.startswith("#")
    assert memory[0] > 10
    with pytest.raises(subprocess.CalledProcessError):
        run_watched("evaluate", "no-such-run")


def test_bytes_are_counted_once_per_operator_and_views_move_none():
    a, b = torch.ones(2, 3), torch.ones(3, 4)
    with roofline.Traffic() as traffic:
        torch.relu((a @ b).T)
    assert traffic.products == 4 * (6 + 12 + 8)
    assert traffic.others == 4 * 16


def test_each_line_of_the_roofline_has_all_above_it():
    batch = {"flop": 4e9, "operands": 2e8, "tables": 0, "passes": 1e8, "rows": 1000}
    measured = {"gflops": 200.0, "gbytes": 20.0, "plain": 10_000.0, "step": 15_000.0, "empty": 50_000.0, "decode": 1e6}
    lines = roofline.section({"batch": batch, "rounds": [measured] * 2}, 2).splitlines()
    rows = [line.split(" | ")[1:3] for line in lines if line.startswith("| ")]
    products, operands, _, passes, decoding = rows[2:7]
    assert products == ["40.0 (40.0–40.0)", "50,000"]
    assert operands == ["20.0 (20.0–20.0)", "33,333"]
    assert passes == ["10.0 (10.0–10.0)", "28,571"]
    assert decoding == ["1.0 (1.0–1.0)", "28,169"]
    nothing, products, operands, decoding = rows[9:]
    assert nothing == ["40.0 (40.0–40.0)", "50,000"]
    assert products == ["40.0 (40.0–40.0)", "25,000"]
    assert operands == ["20.0 (20.0–20.0)", "20,000"]
    assert decoding == ["1.0 (1.0–1.0)", "19,802"]
    assert "1.50 (1.50–1.50) × the plain loop, 0.75 (0.75–0.75) of what the libraries allow without" in lines[-1]
