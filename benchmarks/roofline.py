"""What bounds the rate of a training step: work that is counted, at rates that are measured, into docs/results/performance.md.

    python -m benchmarks.roofline --source FOLDER --repeats 7

FOLDER is what the workload generator wrote. Counted are the floating-point operations and the bytes of one batch through
the plain MMoE; measured, in every round, are the machine's rates, the plain TorchRec loop, the step, the step with a
network that does nothing, and a bare decode.
"""

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import typer
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode
from torchrec import KeyedTensor

from foundrank.data.config.load import load_experiment
from foundrank.dist.study.markdown_sections import write_section
from foundrank.model.foundation.foundation import Foundation
from foundrank.model.kinds import KINDS
from foundrank.model.representation.embedding_tables import materialise

from .jobs import RANKS, Out, Repeats, Source, Work, last_line, run_ranks, spread
from .machine import DTYPES, instructions, matmul_gflops, stream_gbytes
from .speed import FAST, trained_once
from .training_step import open_reader

SETTINGS = f"training.precision={FAST}"
_DTYPE = {"bf16": "bfloat16", "fp32": "float32"}[FAST]
_PRODUCTS = ("mm", "addmm", "addmm_", "bmm", "baddbmm", "_linear_pointwise")


def _fused_flop(x: list[int], weight: list[int], *_: Any, **__: Any) -> int:
    return 2 * x[0] * x[1] * weight[0]


def _added_flop(_: list[int], x: list[int], weight: list[int], *__: Any, **___: Any) -> int:
    return 2 * x[0] * x[1] * weight[1]


# Products that torch's counter does not know.
_FLOPS = {torch.ops.mkldnn._linear_pointwise: _fused_flop, torch.ops.aten.addmm_: _added_flop}


class Traffic(TorchDispatchMode):
    """Bytes that operators read and write, were nothing kept in caches; views move nothing.

    Attributes:
        products: of matrix products.
        others: of all else.
    """

    def __init__(self) -> None:
        super().__init__()
        self.products = self.others = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if not func.is_view:
            size = sum(t.numel() * t.element_size() for t in (*_tensors((args, kwargs)), *_tensors(out)))
            if func.overloadpacket.__name__ in _PRODUCTS:
                self.products += size
            else:
                self.others += size
        return out


def _tensors(tree: Any) -> list[torch.Tensor]:
    return [leaf for leaf in torch.utils._pytree.tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


def counted(experiment: Path, run: Path) -> dict[str, float]:
    """The work of one rank's batch: ``flop`` of products, bytes of ``operands``, ``passes`` and ``tables``, and ``rows``.

    A row of a table that is looked up is read once, and once read and written again in its update.
    """
    loaded = load_experiment(experiment, [SETTINGS], kinds=KINDS)
    reader, encoder, plan = open_reader(loaded, run, 0, RANKS)
    [batch] = itertools.islice(reader.batches(plan), 1)
    model = Foundation(encoder.layout, loaded.model, loaded.training.batch_size, loaded.training.precision)
    materialise(model, loaded.seed)
    looked_up = model.embeddings(batch.sparse)
    leaf = looked_up.values().detach().requires_grad_()
    pooled = KeyedTensor(looked_up.keys(), looked_up.length_per_key(), leaf)
    with FlopCounterMode(display=False, custom_mapping=_FLOPS) as flops, Traffic() as traffic:
        loss, _ = model.dense(pooled, batch)
        loss.backward()
    lookups = batch.sparse.values().numel()
    return {
        "flop": flops.get_total_flops(),
        "operands": traffic.products,
        "passes": traffic.others,
        "tables": lookups * loaded.model.embedding_dim * loaded.training.table_bytes * 3,
        "rows": batch.rows,
    }


def roofline(
    source: Source,
    repeats: Repeats = 7,
    work: Work = Path("runs/speed"),
    out: Out = Path("docs/results/performance.md"),
) -> None:
    """Counts, measures and writes the section."""
    work = work.absolute()
    run = trained_once(source, work)
    job = ["--experiment", work / "plain.yaml", "--run-dir", run]
    rounds = []
    for _ in range(repeats):
        found = {"gflops": matmul_gflops(DTYPES[_DTYPE]), "gbytes": stream_gbytes()}
        found["plain"] = run_ranks("benchmarks.plain_torchrec", "--source", source)["samples_per_s"]
        found["step"] = run_ranks("benchmarks.training_step", *job, "--set", SETTINGS)["samples_per_s"]
        found["empty"] = run_ranks("benchmarks.training_step", *job, "--set", SETTINGS, "--empty")["samples_per_s"]
        found["decode"] = last_line(["python", "-m", "benchmarks.reading", *job])["bare_rows_per_s"]
        print(json.dumps(found), flush=True)
        rounds.append(found)
    kept = {"batch": counted(work / "plain.yaml", run), "rounds": rounds}
    name = f"roofline-{instructions()}"
    (out.parent / "benchmarks" / f"{name}.json").write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    write_section(out, name, section(kept, repeats))


def section(kept: dict[str, Any], repeats: int) -> str:
    """The parts of a batch, the rates they allow, and the step's own, as Markdown."""
    batch = kept["batch"]
    every = {name: np.array([one[name] for one in kept["rounds"]]) for name in kept["rounds"][0]}
    # Ranks share the machine: each has its part of what all cores do together.
    product, byte = RANKS / every["gflops"] / 1e9, RANKS / every["gbytes"] / 1e9
    products, operands = batch["flop"] * product, batch["operands"] * byte
    decode, loop = batch["rows"] / every["decode"], RANKS * batch["rows"] / every["empty"]
    of_products = {
        f"matrix products, {_DTYPE}: {batch['flop'] / 1e9:.1f} GFLOP": products,
        f"their operands and results: {batch['operands'] / 1e6:.0f} MB": operands,
    }
    work = of_products | {
        f"rows of tables, looked up and updated: {batch['tables'] / 1e6:.0f} MB": batch["tables"] * byte,
        f"all other passes over activations: {batch['passes'] / 1e6:.0f} MB": batch["passes"] * byte,
        "decoding with pyarrow": decode,
    }
    libraries = {"the step with a network that does nothing": loop} | of_products | {"decoding with pyarrow": decode}

    def table(parts: dict[str, np.ndarray]) -> str:
        lines, total = [], np.zeros(repeats)
        for name, seconds in parts.items():
            total = total + seconds
            rate = RANKS * batch["rows"] / total
            ratio = spread(rate / every["plain"])
            lines.append(f"| {name} | {spread(seconds * 1e3, 1)} | {np.median(rate):,.0f} | {ratio} |")
        return "\n".join(lines)

    share = every["step"] * (loop + products + operands) / (RANKS * batch["rows"])
    return f"""## The roofline of a step with {instructions()}

    python -m benchmarks.roofline --source WORKLOAD --repeats {repeats}

A batch of {batch["rows"]:,} rows on each of {RANKS} ranks through the plain MMoE. Work is counted; the rates are measured on all
cores in each round: {spread(every["gflops"], 0)} GFLOP/s in a product of 1024 x 1024 {_DTYPE} matrices, {spread(every["gbytes"], 0)} GB/s of a copy
into memory that is there already. Bytes are what operators read and write, were nothing kept in caches. Medians of {repeats} rounds.

| the work of a batch | ms | rows/s if this and all above took no longer | × plain TorchRec loop, fp32 |
| --- | ---: | ---: | ---: |
{table(work)}

*The step with a network that does nothing* is measured: the same tables, ids, exchange between ranks, sum of gradients and
optimizers, and a loss that is the sum of all lookups and parameters. It is what TorchRec, FBGEMM and gloo take.

| what the libraries allow | ms | rows/s if this and all above took no longer | × plain TorchRec loop, fp32 |
| --- | ---: | ---: | ---: |
{table(libraries)}

The plain TorchRec loop itself: {np.median(every["plain"]):,.0f} rows/s. The step alone: {np.median(every["step"]):,.0f} rows/s, \
{spread(every["step"] / every["plain"])} × the plain loop, {spread(share)} of what the libraries allow without decoding."""


if __name__ == "__main__":
    typer.run(roofline)
