"""How fast SASRec trains here and in RecBole, on Amazon Beauty at the same sizes against all items, into docs/results/performance.md.

    python -m benchmarks.sequences --source DATA/amazon_beauty --recbole PYTHON

``PYTHON`` is that of an environment of its own: ``pip install recbole "pandas<2.2" "numpy<2" "pyarrow<20"``. Both have two cores: RecBole in one
process, foundrank in two ranks. What is counted is items to be found a second, as RecBole makes a sample of each.
"""

import shutil
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import typer

from foundrank.dist.study.markdown_sections import write_section

from .jobs import Out, Repeats, Source, Work, last_line, run_foundrank, spread, trained_rate
from .machine import calibration

STEPS = 60
SAME = (  # as RecBole's; two ranks: 128 users a step
    "text.vectors=none; training.batch_size=64; model.embedding_dim=64; model.width=64; model.next_item.label_smoothing=0; "
    "model.history={encoder: sasrec, layers: 2, heads: 2, dropout: 0.3}"
)
OURS = {"foundrank, fp32": "training.precision=fp32", "foundrank, bf16": "training.precision=bf16"}


def sequences(
    source: Source,
    recbole: Annotated[Path, typer.Option(help="Python of an environment with RecBole")],
    repeats: Repeats = 7,
    work: Work = Path("runs/sequences"),
    out: Out = Path("docs/results/performance.md"),
) -> None:
    """Measures and writes the section."""
    data, run = work / "data", work / "run"
    if not data.is_dir():
        run_foundrank("import", "amazon-beauty", source, data)
    past = pq.read_table(data / "events/beauty/train", columns=["history"])["history"]
    per_row = pc.mean(pc.list_value_length(past)).as_py()  # an item to be found after each past one
    rates: dict[str, list[float]] = {"RecBole": [], **{name: [] for name in OURS}}
    for _ in range(repeats):
        script = Path(__file__).with_name("recbole_sasrec.py")
        found = last_line([recbole, script, source / "interactions.parquet", work / "recbole", 20], threads=2)
        rates["RecBole"].append(found["targets_per_s"])
        for name, change in OURS.items():
            shutil.rmtree(run, ignore_errors=True)
            limits = f"{SAME}; {change}; training.max_steps={STEPS}; training.log_every=10; training.keep_best=false"
            run_foundrank("train", data, "--run-dir", run, "-p", 2, "--set", limits)
            rates[name].append(trained_rate(run) * per_row)
        print(" ".join(f"{name} {values[-1]:,.0f}" for name, values in rates.items()), flush=True)
    write_section(out, "sequences", _section({name: np.array(of) for name, of in rates.items()}, found["version"]))


def _section(rates: dict[str, np.ndarray], version: str) -> str:
    lines = [
        "## SASRec beside RecBole\n",
        "    python -m benchmarks.sequences --source ../shared/data/amazon_beauty --recbole PYTHON\n",
        f"Amazon Beauty, histories of up to 50, width 64, 2 layers, 2 heads, against all 12,101 items; RecBole {version}. Medians of "
        f"{len(rates['RecBole'])} rounds, ratios within a round. {calibration()}\n",
        "| | items to be found a second | × RecBole |",
        "| --- | ---: | ---: |",
    ]
    for name, values in rates.items():
        low, high = values.min(), values.max()
        ratio = "" if name == "RecBole" else spread(values / rates["RecBole"], 1)
        lines.append(f"| {name} | {np.median(values):,.0f} ({low:,.0f}–{high:,.0f}) | {ratio} |")
    return "\n".join(lines)


if __name__ == "__main__":
    typer.run(sequences)
