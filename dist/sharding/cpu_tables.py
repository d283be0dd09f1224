"""Lookups and updates of tables on CPUs by kernels of our own, in place of FBGEMM's.

FBGEMM's kernels for CPUs take four times as long on cores without AVX-512, and an eighth more with it (docs/results/performance.md).
The source beside this file is compiled when it is first needed, and kept in the user's cache. Without a compiler, and for
what the kernels do not know (means, weights per lookup, other optimizers), FBGEMM's are used as before. Float16 tables are trained by ours
alone, which round what an update leaves up or down at random, as FBGEMM's do on GPUs.
"""

import ctypes
import hashlib
import os
import shlex
import shutil
import subprocess
import warnings
from collections.abc import Callable
from ctypes import Structure, byref, c_bool, c_float, c_int64, c_void_p
from functools import cache, partial
from pathlib import Path
from typing import Any

import fbgemm_gpu  # noqa: F401  registers the operators
import torch
from torch import Tensor

from ...data.config.experiment import Experiment
from ...data.errors import UserError
from ...model.layers.fast import SWITCH, fast_tables
from .kernel_cache import library

SOURCE = Path(__file__).with_suffix(".cpp")
POOLED = "split_embedding_codegen_forward_cpu"
POOLED_OF_COPIES = "dense_embedding_codegen_lookup_function"
UPDATE = "split_embedding_backward_codegen_rowwise_adagrad_cpu"
_FLAGS = "-O3 -march=native -std=c++17 -fno-math-errno -fassociative-math -fno-signed-zeros -fno-trapping-math"
_SUM = 0  # FBGEMM's number for it
_FLOAT32 = 0  # FBGEMM's number for it
_NO_DECAY, _DECOUPLED = 0, 2  # FBGEMM's numbers of kinds of decay
_DECAY = 18  # the decay's place among the arguments of `UPDATE`
_LOOKUPS_PER_THREAD = 16384
_UNSAID = {
    "output_dtype": _FLOAT32,
    "B_offsets": None,
    "vbe_output_offsets_feature_rank": None,
    "vbe_B_offsets_rank_per_feature": None,
    "max_B": -1,
    "max_B_feature_rank": -1,
    "vbe_output_size": -1,
}
"""The last arguments of `POOLED_OF_COPIES` but one, and what they are where they say nothing."""
USUAL = {
    name: torch.library.get_kernel(f"fbgemm::{name}", "CPU").call_boxed for name in (POOLED, POOLED_OF_COPIES, UPDATE)
}
"""FBGEMM's own kernels; what they take begins with a dispatch key set."""
_REGISTERED: list[torch.library.Library] = []  # what is registered lives as long as its library


class Features(Structure):
    """The batch, as the source describes it."""

    _fields_ = (
        *((name, c_void_p) for name in ("ids", "offsets", "starts", "cumulated_rows", "dims")),
        ("count", c_int64),
        ("bags", c_int64),
    )


@cache
def use_own_kernels() -> str | None:
    """Puts the kernels in the place of FBGEMM's, in this process.

    Returns:
        Why that cannot be done, if so.
    """
    kernels, why_not = None, f"{SWITCH} says so"
    if fast_tables():
        try:
            kernels, why_not = load_kernels(), None
        except (OSError, subprocess.SubprocessError) as error:
            said = getattr(error, "stderr", None)
            why_not = str(said or error).strip().splitlines()[0]
    ours = ((POOLED, pooled), (POOLED_OF_COPIES, pooled_of_copies)) if kernels is not None else ()
    library = torch.library.Library("fbgemm", "IMPL")
    for name, kernel in (*ours, (UPDATE, rowwise_adagrad)):  # decay is ours with any kernels
        with warnings.catch_warnings(action="ignore"):  # torch says that something is replaced
            library.impl(name, partial(kernel, kernels, USUAL[name]), "CPU", with_keyset=True)
    _REGISTERED.append(library)
    return why_not


def check_rounding(experiment: Experiment) -> None:
    """Makes sure that an experiment's float16 tables can be trained on this CPU.

    Raises:
        UserError: they cannot, by FBGEMM's kernels, which would round small steps away.
    """
    what = use_own_kernels()
    remedy = "Install a C++ compiler that knows float16 (GCC 12, Clang 15), train on GPUs, or set fp32."
    if what is None and not load_kernels().knows_half():
        what = "the C++ compiler has no float16"
    weighted = next((name for name, feature in experiment.features().items() if feature.inputs(name).weighted), None)
    if what is None and weighted is not None:
        what = f"the ids of list '{weighted}' have weights"
        remedy = "Train on GPUs, leave out the weights, or set fp32."
    if what is not None:
        told = f"is fp16, which this project's own kernels train on CPUs, and they cannot be used here: {what}"
        raise UserError("training.table_precision", told, remedy)


def pooled(
    kernels: ctypes.CDLL,
    usual: Callable[..., Tensor],
    keyset: Any,
    weights: Tensor,
    starts: Tensor,
    dims: Tensor,
    total_dim: int,
    cumulated_rows: Tensor,
    ids: Tensor,
    offsets: Tensor,
    pooling: int,
    weight_of_lookups: Tensor | None,
    out_type: int,
) -> Tensor:
    """FBGEMM's operator `POOLED`: sums ``[B, total_dim]`` of each bag's rows."""
    features = _features(kernels, weights, starts, dims, cumulated_rows, ids, offsets, pooling, weight_of_lookups)
    if features is None or out_type != _FLOAT32:
        more = (pooling, weight_of_lookups, out_type)
        return usual(keyset, weights, starts, dims, total_dim, cumulated_rows, ids, offsets, *more)
    out = weights.new_empty(features.bags, total_dim, dtype=torch.float32)
    kernels.pooled(byref(features), *_table(weights), _at(out), c_int64(total_dim), _threads(ids))
    return out


def pooled_of_copies(
    kernels: ctypes.CDLL, usual: Callable[..., Tensor], keyset: Any, *arguments: Any, **named: Any
) -> Tensor:
    """FBGEMM's operator `POOLED_OF_COPIES`: as `pooled`, of tables that every rank has. Where gradients are wanted it stays FBGEMM's.

    Its arguments, in FBGEMM's order: weights, their starts, dims, their sum and the largest of them, cumulated_rows, their bits,
    ids, offsets, pooling, weights of lookups, and which features learn; then those of `_UNSAID`, and whether widths differ.
    """
    weights, starts, dims, total_dim, _, cumulated_rows, _, ids, offsets, pooling, of_lookups, _, *others = arguments
    said = dict(zip(_UNSAID, others, strict=False)) | named
    if torch.is_grad_enabled() or any(said.get(name, unsaid) != unsaid for name, unsaid in _UNSAID.items()):
        return usual(keyset, *arguments, **named)

    def all_of_it(*_: Any) -> Tensor:
        return usual(keyset, *arguments, **named)

    told = (weights, starts, dims, total_dim, cumulated_rows, ids, offsets, pooling, of_lookups, _FLOAT32)
    return pooled(kernels, all_of_it, keyset, *told)


def rowwise_adagrad(
    kernels: ctypes.CDLL | None, usual: Callable[..., None], keyset: Any, *arguments: Any, **named: Any
) -> None:
    """FBGEMM's operator `UPDATE`: one step of row-wise Adagrad from the gradients ``[B, total_dim]`` of the pooled rows.

    Where FBGEMM's kernel takes the step, rows decay before it: its own decay leaves out tables that one feature alone looks up.

    Its arguments, in FBGEMM's order: gradient, weights, their placements and starts, dims, the largest of them,
    cumulated_rows, their bits, ids, offsets, pooling, weights of lookups, stochastic rounding, momentum, its placements
    and starts, rate, epsilon, decay of weights and its kind, of which the decoupled one is known here; then what is left to
    FBGEMM if it is not 0 (a largest norm).
    """
    gradient, weights, _, starts, dims, _, cumulated_rows, _, ids, offsets, pooling, of_lookups = arguments[:12]
    _, momentum, _, momentum_starts, rate, epsilon, *others = arguments[12:]
    decay, kind, *others = [*others, *(0.0, _NO_DECAY)[len(others) :]]
    features = _features(kernels, weights, starts, dims, cumulated_rows, ids, offsets, pooling, of_lookups)
    known = (gradient.dtype, momentum.dtype, momentum_starts.dtype) == (torch.float32, torch.float32, torch.int64)
    decays = kind == _DECOUPLED
    known &= decays or (kind, decay) == (_NO_DECAY, 0)
    known &= gradient.stride(1) == 1 and not any((*others, *named.values()))
    if kernels is None or features is None or not known:
        if decays:
            _decay(weights, starts, dims, ids, offsets, 1 - rate.item() * decay)
            arguments = (*arguments[:_DECAY], 0.0, _NO_DECAY, *others)
        return usual(keyset, *arguments, **named)
    stride, steps = c_int64(gradient.stride(0)), (c_float(rate.item()), c_float(epsilon), c_float(decay))
    tables = (*_table(weights), _at(momentum), _at(momentum_starts))
    kernels.rowwise_adagrad(byref(features), _at(gradient), stride, *tables, *steps, _threads(ids))
    return None


def _decay(weights: Tensor, starts: Tensor, dims: Tensor, ids: Tensor, offsets: Tensor, kept: float) -> None:
    """Multiplies the rows that a batch looks up, each once, whichever features do."""
    bags = (len(offsets) - 1) // max(1, len(dims) - 1)
    seen: dict[tuple[int, int], list[Tensor]] = {}
    for t, (start, width) in enumerate(zip(starts.tolist(), dims.diff().tolist(), strict=True)):
        seen.setdefault((start, width), []).append(ids[offsets[t * bags] : offsets[(t + 1) * bags]])
    for (start, width), rows in seen.items():
        cells = start + torch.cat(rows).unique()[:, None] * width + torch.arange(width)
        weights[cells] *= kept


def _features(
    kernels: ctypes.CDLL | None,
    weights: Tensor,
    starts: Tensor,
    dims: Tensor,
    cumulated_rows: Tensor,
    ids: Tensor,
    offsets: Tensor,
    pooling: int,
    weight_of_lookups: Tensor | None,
) -> Features | None:
    """What the kernels are told of a batch; None if they do not know such."""
    counts = (starts, cumulated_rows, ids, offsets)
    if kernels is None:
        return None
    known = weights.dtype == torch.float32 or (weights.dtype == torch.float16 and kernels.knows_half())
    if not known or dims.dtype != torch.int32 or any(x.dtype != torch.int64 for x in counts):
        return None
    if weight_of_lookups is not None or pooling != _SUM or not all(x.is_contiguous() for x in counts):
        return None
    if not (count := len(dims) - 1):
        return None
    bags = (len(offsets) - 1) // count
    addresses = (x.data_ptr() for x in (ids, offsets, starts, cumulated_rows, dims))
    features = Features(*addresses, count, bags)
    return features if kernels.in_range(byref(features)) else None


def _table(weights: Tensor) -> tuple[c_void_p, c_bool]:
    return _at(weights), c_bool(weights.dtype == torch.float16)


def _at(x: Tensor) -> c_void_p:
    return c_void_p(x.data_ptr())


def _threads(ids: Tensor) -> c_int64:
    return c_int64(max(1, min(torch.get_num_threads(), len(ids) // _LOOKUPS_PER_THREAD)))


def load_kernels() -> ctypes.CDLL:
    """The kernels, compiled if the cache does not have them for this source, compiler and processor.

    Raises:
        OSError: there is no compiler.
        subprocess.SubprocessError: it refuses the source.
    """
    try:
        compiler = shlex.split(os.environ.get("CXX", "")) or ["c++"]
    except ValueError as error:  # a quote that is not closed
        raise FileNotFoundError(f"CXX is no command ({error})") from error
    if shutil.which(compiler[0]) is None:
        raise FileNotFoundError(f"there is no C++ compiler {compiler[0]!r}; install one, or name it in CXX")
    made_of = (SOURCE.read_bytes(), compiler, _FLAGS, sorted(torch.cpu.get_capabilities().items()))
    name = f"cpu_tables-{hashlib.sha256(repr(made_of).encode()).hexdigest()[:20]}.so"

    def compile_to(path: Path) -> None:
        command = [*compiler, *_FLAGS.split(), "-shared", "-fPIC", "-pthread", "-o", str(path), str(SOURCE)]
        subprocess.run(command, check=True, capture_output=True, text=True)

    kernels = library(name, compile_to)
    kernels.in_range.restype = kernels.knows_half.restype = c_bool
    return kernels
