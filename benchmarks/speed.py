"""How fast foundrank trains, reads and scores the standard workload, beside a plain TorchRec loop, into docs/results/performance.md.

    python -m benchmarks.speed --source FOLDER --repeats 7

FOLDER is what the workload generator wrote. Every run is a job of its own, the runs of all contestants take turns, and
rates are compared within a round. What was measured is kept as JSON in docs/results/benchmarks/; each kind of CPU has a section and a file
of its own, named for its instructions. Where they have no bfloat16, all is float32.
"""

import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
import typer

from foundrank.dist.study.markdown_sections import write_section
from foundrank.model.layers.precision import chosen_precision

from .jobs import (
    RANKS,
    Out,
    Repeats,
    Source,
    Work,
    last_line,
    run_foundrank,
    run_ranks,
    scored_rate,
    spread,
    trained_rate,
)
from .machine import DTYPES, copy_gbytes, instructions, matmul_gflops
from .workload_experiment import write_workload

STEPS, STEPS_ALONE = 160, 60  # from Parquet, of which the first do not count; and from memory
PLAIN = "plain TorchRec loop, fp32"
FAST = chosen_precision("auto", torch.device("cpu"))
STEP = f"step alone, plain MMoE, {FAST}"
DECODING = f"step beside a bare decode, plain MMoE, {FAST}"
WHOLE = f"end to end, plain MMoE, {FAST}"
BARE, READER = "bare decode, one thread", "reader, one thread"
LINES = {  # contestant -> what its rate is divided by; the first two of plain MMoE may be one
    PLAIN: None,
    "step alone, plain MMoE, fp32": PLAIN,
    STEP: PLAIN,
    f"step alone, full model, {FAST}": STEP,
    DECODING: STEP,
    "end to end, plain MMoE, fp32": PLAIN,
    WHOLE: PLAIN,
    f"end to end, full model, {FAST}": WHOLE,
    BARE: None,
    READER: BARE,
    f"scoring, {FAST}": PLAIN,
}


def speed(
    source: Source,
    repeats: Repeats = 7,
    work: Work = Path("runs/speed"),
    out: Out = Path("docs/results/performance.md"),
) -> None:
    """Measures and writes the section."""
    work = work.absolute()
    run = trained_once(source, work)
    write_scoring_input(source, work / "input")
    found: dict[str, list[float]] = {name: [] for name in LINES}
    startups: list[dict[str, float]] = []
    rates: list[dict[str, float]] = []
    for repeat in range(repeats):
        rates.append({name: matmul_gflops(dtype) for name, dtype in DTYPES.items()} | {"copy": copy_gbytes()})
        for names, contestant in _contestants(source, work, run, startups):
            for name, rate in zip(names, contestant(), strict=True):
                found[name].append(rate)
                print(f"round {repeat + 1}: {name}: {rate:,.0f} rows/s", flush=True)
    kept = {"rates": found, "startup_s": startups, "machine": rates, "cores": os.cpu_count()}
    (out.parent / "benchmarks").mkdir(exist_ok=True)
    name = f"speed-{instructions()}"
    (out.parent / "benchmarks" / f"{name}.json").write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    write_section(out, name, section(kept, repeats))


def trained_once(source: Path, work: Path) -> Path:
    """The run folder of a training of ``plain.yaml``, made with the workload's experiments if need be."""
    write_workload(source, work)
    run = work / "run"
    if not (run / "report.html").exists():
        shutil.rmtree(run, ignore_errors=True)
        run_foundrank("train", work / "plain.yaml", "--run-dir", run, "-p", RANKS, "--set", "training.precision=auto")
    return run


def _contestants(
    source: Path, work: Path, run: Path, startups: list[dict[str, float]]
) -> list[tuple[tuple[str, ...], Callable[[], tuple[float, ...]]]]:
    """What takes turns: names of the rates one job gives, and the job."""

    def step(model: str, precision: str, *more: str) -> Callable[[], tuple[float, ...]]:
        options = ["--experiment", work / f"{model}.yaml", "--run-dir", run, "--set", f"training.precision={precision}"]
        options += ["--steps", STEPS_ALONE, *more]
        return lambda: (run_ranks("benchmarks.training_step", *options)["samples_per_s"],)

    def whole(model: str, precision: str) -> Callable[[], tuple[float, ...]]:
        return lambda: (_end_to_end(work / f"{model}.yaml", precision, work / "timed", startups),)

    def reading() -> tuple[float, ...]:
        command = [sys.executable, "-m", "benchmarks.reading", "--experiment", work / "plain.yaml", "--run-dir", run]
        rates = last_line(command)
        return rates["bare_rows_per_s"], rates["rows_per_s"]

    def scoring() -> tuple[float, ...]:
        shutil.rmtree(work / "scores", ignore_errors=True)
        said = run_foundrank("score", run, work / "input", work / "scores", "-p", RANKS)
        return (scored_rate(said),)

    def plain() -> tuple[float, ...]:
        options = ["--source", source, "--steps", STEPS_ALONE]
        return (run_ranks("benchmarks.plain_torchrec", *options)["samples_per_s"],)

    # What is compared most is measured one right after the other: on a shared machine minutes make a difference.
    jobs: list[Callable[[], tuple[float, ...]]] = [scoring, plain]
    names: list[tuple[str, ...]] = [(f"scoring, {FAST}",), (PLAIN,)]
    for model, precision in dict.fromkeys([("plain", "fp32"), ("plain", FAST), ("full", FAST)]):
        called = f"{'plain MMoE' if model == 'plain' else 'full model'}, {precision}"
        jobs += [step(model, precision), whole(model, precision)]
        names += [(f"step alone, {called}",), (f"end to end, {called}",)]
    jobs += [step("plain", FAST, "--decode"), reading]
    names += [(DECODING,), (BARE, READER)]
    return list(zip(names, jobs, strict=True))


def _end_to_end(experiment: Path, precision: str, run: Path, startups: list[dict[str, float]]) -> float:
    """Rows per second of a training from Parquet."""
    shutil.rmtree(run, ignore_errors=True)
    began = time.time()
    settings = f"training.precision={precision};training.max_steps={STEPS};training.log_every=20"
    run_foundrank("train", experiment, "--run-dir", run, "-p", RANKS, "--set", settings)
    info = json.loads((run / "run.json").read_text(encoding="utf-8"))
    startups.append(info["startup_s"] | {"command to first step": info["first_step_at"] - began})
    return trained_rate(run)


def write_scoring_input(source: Path, folder: Path) -> None:
    """The workload's training files with the domains' names in place of their numbers, once."""
    if folder.exists():
        return
    unfinished = folder.with_name(f"{folder.name}.tmp")
    unfinished.mkdir(exist_ok=True)
    for path in sorted((source / "train").glob("*.parquet")):
        file = pq.ParquetFile(path)
        table = file.read()
        names = pc.binary_join_element_wise("d", table["domain"].cast(pa.string()), "")
        table = table.set_column(table.column_names.index("domain"), "domain", names)
        group = file.metadata.row_group(0).num_rows
        pq.write_table(table, unfinished / path.name, compression="zstd", row_group_size=group)
    os.replace(unfinished, folder)


def section(kept: dict[str, Any], repeats: int) -> str:
    """The table of all contestants, the start-up's parts and the machine, as Markdown."""
    lines = []
    for name, base in LINES.items():
        rates = np.array(kept["rates"][name])
        ratio = ""
        if base is not None:
            ratios = rates / np.array(kept["rates"][base])
            ratio = f"{spread(ratios)} × {base}"
        lines.append(f"| {name} | {np.median(rates):,.0f} | {rates.min():,.0f}–{rates.max():,.0f} | {ratio} |")
    whole, step, decoding = (np.array(kept["rates"][name]) for name in (WHOLE, STEP, DECODING))
    startup = {part: np.median([one[part] for one in kept["startup_s"]]) for part in kept["startup_s"][0]}
    machine = "; ".join(
        f"{name} {spread(np.array([one[name] for one in kept['machine']]), 0)}" for name in kept["machine"][0]
    )
    return f"""## Measured with {instructions()}

    python -m benchmarks.speed --source WORKLOAD --repeats {repeats}

{kept["cores"]} cores, {RANKS} ranks of one thread; medians of {repeats} rounds, ratios within a round. GFLOP/s in a product of 1024 x 1024
matrices on all cores, and GB/s of a copy: {machine}.

| | rows/s | range | ratio |
| --- | ---: | ---: | --- |
{chr(10).join(lines)}

End to end ÷ step alone, plain MMoE, {FAST}: {spread(whole / step)}; ÷ step beside a bare decode: {spread(whole / decoding)}.

Start-up in seconds, medians: {"; ".join(f"{part} {seconds:.1f}" for part, seconds in startup.items())}."""


if __name__ == "__main__":
    typer.run(speed)
