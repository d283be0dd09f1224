import subprocess

import pytest

from benchmarks.growth import WORKLOAD, _link
from benchmarks.jobs import run_watched
from benchmarks.speed import LINES, PLAIN, section


def test_rates_are_compared_within_a_round():
    rates = {name: [300.0, 200.0, 100.0] for name in LINES}
    rates["end to end, plain MMoE, bf16"] = [600.0, 500.0, 400.0]
    parts = {"checks": 1.0, "command to first step": 9.0}
    kept = {"rates": rates, "startup_s": [parts] * 3, "machine": [{"copy": 7.0}] * 3, "cores": 2}
    lines = section(kept, 3).splitlines()
    (line,) = [line for line in lines if line.startswith("| end to end, plain MMoE, bf16")]
    assert line == f"| end to end, plain MMoE, bf16 | 500 | 400–600 | 2.50 (2.00–4.00) × {PLAIN} |"
    whole = (
        "End to end ÷ step alone, plain MMoE, bf16: 2.50 (2.00–4.00); ÷ step beside a bare decode: 2.50 (2.00–4.00)."
    )
    assert whole in lines


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
