"""Nights of a pipeline: the example script, its gate, the promotion, and scores of what comes late."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import foundrank as foundrank_module
from foundrank.data.errors import UserError

from .commands import TINY, WITHOUT_DROPOUT, Here

SCRIPT = Path(__file__).parents[2] / "examples" / "nightly.sh"
DOMAIN = "shop_feed"


def night(folder: Path, day: str, gate: str, world: Path) -> subprocess.CompletedProcess[str]:
    told = {"EXPERIMENT": str(world), "DAY": day, "GATE": gate, "PAUSE": "0", "OMP_NUM_THREADS": "1"}
    told["SET"] = "; ".join([*TINY, *WITHOUT_DROPOUT, "training.epochs=1", "training.max_steps=4"])
    told["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    command = ["bash", str(SCRIPT)]
    return subprocess.run(
        command, cwd=folder, env=os.environ | told, capture_output=True, text=True, timeout=240, check=False
    )


def test_two_nights(embedded: Path, tmp_path: Path, here: Here, monkeypatch: pytest.MonkeyPatch):
    (events,) = (embedded / "events" / DOMAIN / "test").glob("*.parquet")
    table = pq.read_table(events)
    for day in ("day=2026-11-27", "day=2026-11-28"):
        folder = tmp_path / "logs" / day / f"domain={DOMAIN}"
        folder.mkdir(parents=True)
        pq.write_table(table.slice(100, 200), folder / "b.parquet")
    first = night(tmp_path, "2026-11-27", f"{DOMAIN}.click.auc=0.01", embedded)
    assert first.returncode == 0, first.stdout + first.stderr
    second = night(tmp_path, "2026-11-28", f"{DOMAIN}.click.auc=0.9999", embedded)
    assert second.returncode == 3, second.stdout + second.stderr
    assert f"{DOMAIN}.click.auc is 0." in second.stdout
    assert "not promoted" in second.stdout
    monkeypatch.chdir(tmp_path)
    pointer = json.loads(Path("models/current/current.json").read_text())
    assert Path(pointer["run"]) == tmp_path / "runs" / "2026-11-27"
    assert json.loads(Path("runs/2026-11-28/evaluation.json").read_text())["rows"]
    summaries = [json.loads(Path(f"scores/day=2026-11-2{n}/_summary.json").read_text()) for n in (7, 8)]
    assert [one["checkpoint"] for one in summaries] == [pointer["checkpoint"]] * 2  # the night's own is not good enough
    assert summaries[1]["drift"]["shifts"][f"{DOMAIN}.click"] == 0
    assert {one["rows"] for one in summaries} == {200}
    assert set(pq.read_table("scores/day=2026-11-27")["domain"].to_pylist()) == {DOMAIN}

    # A file that is late, and before the other by its name.
    late = table.slice(0, 100)
    pq.write_table(late, f"logs/day=2026-11-28/domain={DOMAIN}/a.parquet")
    again = ["score", "models/current", "logs/day=2026-11-28", "scores/day=2026-11-28"]
    assert here(*again, "--max-mean-shift", "0")[0] == 3  # another hundred rows have another mean
    parts = sorted(Path("scores/day=2026-11-28").glob("part-*"))
    assert [pq.read_metadata(part).num_rows for part in parts] == [200, 100]
    assert pq.read_schema(parts[0]).equals(pq.read_schema(parts[1]))
    assert here(*again) == (0, "")
    scorer = foundrank_module.load("models/current")
    assert scorer.score(late, DOMAIN)["score_click"].equals(pq.read_table(parts[1])["score_click"])

    # Another model's scores take the place of these, in folders by day; the day is in the input's folders.
    status, said = here("score", "runs/2026-11-28", "logs", "scores/day=2026-11-28", "--partition-by", "day")
    assert status == 2
    assert "checkpoint" in said
    assert "--overwrite" in said
    other = ["score", "runs/2026-11-28", "logs", "scores/day=2026-11-28", "--partition-by", "day", "--overwrite"]
    before = parts[0].read_bytes()
    assert here(*other, "--check")[0] == 0
    assert parts[0].read_bytes() == before
    assert here(*other)[0] == 0
    written = sorted(path.name for path in Path("scores/day=2026-11-28").iterdir())
    assert written == ["_SUCCESS", "_job.json", "_parts", "_summary.json", "day=2026-11-27", "day=2026-11-28"]
    assert "day" not in pq.ParquetFile(next(Path("scores/day=2026-11-28/day=2026-11-27").iterdir())).schema_arrow.names

    assert here("promote", "runs/2026-11-28", "models/current") == (0, "")
    assert here("report", "models/current") == (0, "")
    assert here("promote", "--rollback", "models/current") == (0, "")
    shutil.rmtree("runs/2026-11-27")
    with pytest.raises(UserError, match="models/current"):
        foundrank_module.load("models/current")
