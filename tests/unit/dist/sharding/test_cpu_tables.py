"""Kernels of tables on CPUs, against FBGEMM's."""

import ctypes
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from foundrank.data.config.load import load_experiment
from foundrank.data.errors import UserError
from foundrank.dist.sharding import cpu_tables
from foundrank.dist.sharding.cpu_tables import POOLED, UPDATE, USUAL, load_kernels, pooled, rowwise_adagrad
from foundrank.dist.train.prepare import check_optimizer
from foundrank.model.kinds import KINDS
from tests.tiny_world import SCHEMAS, random_events, write_world

pytestmark = pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler")

KEYS = torch._C.DispatchKeySet(torch._C.DispatchKey.CPU)
SUM, MEAN, NONE = 0, 1, 2
DECOUPLED = 2


@pytest.fixture(scope="module")
def kernels():
    return load_kernels()


def never(*arguments, **named):
    raise AssertionError("FBGEMM's kernel was used")


class Tables:
    """Some tables in one block of memory, and a batch of lookups in them.

    ``rows``, ``dims`` and ``features`` are of each table: rows, width, and how many features look it up.
    """

    def __init__(self, seed, rows, dims, features, bags, longest):
        self.pooling, self.features = SUM, features
        random = torch.Generator().manual_seed(seed)
        of_feature = [table for table, count in enumerate(features) for _ in range(count)]
        sizes = torch.tensor([r * d for r, d in zip(rows, dims, strict=True)])
        before = torch.cat([torch.zeros(1, dtype=torch.int64), torch.tensor(rows).cumsum(0)])
        self.weights = torch.randn(int(sizes.sum()), generator=random)
        self.starts = (sizes.cumsum(0) - sizes)[of_feature]
        self.momentum = torch.rand(sum(rows), generator=random)
        self.momentum_starts = before[of_feature]
        self.cumulated_rows = torch.cat([self.momentum_starts, before[-1:]])
        widths = torch.tensor([0, *(dims[t] for t in of_feature)])
        self.dims = widths.cumsum(0).int()
        lengths = torch.randint(0, longest + 1, (len(of_feature) * bags,), generator=random)
        self.offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
        of_lookup = torch.tensor([rows[t] for t in of_feature]).repeat_interleave(bags).repeat_interleave(lengths)
        self.ids = (torch.rand(len(of_lookup), generator=random) * of_lookup).long()
        self.gradient = torch.randn(bags, int(self.dims[-1]), generator=random)

    def pool(self, function=None, weight_of_lookups=None):
        counts = (self.starts, self.dims, int(self.dims[-1]), self.cumulated_rows, self.ids, self.offsets)
        return function(KEYS, self.weights, *counts, self.pooling, weight_of_lookups, 0)

    def update(self, function, **named):
        """The weights and the momentum after a step."""
        weights, momentum = self.weights.clone(), self.momentum.clone()
        places, largest = torch.zeros(len(self.starts), dtype=torch.int32), int(self.dims.diff().max())
        tables = (weights, places, self.starts, self.dims, largest, self.cumulated_rows, 62)
        of_optimizer = (momentum, places, self.momentum_starts, torch.tensor(0.1), 1e-8)
        function(KEYS, self.gradient, *tables, self.ids, self.offsets, self.pooling, None, True, *of_optimizer, **named)
        return weights, momentum


@st.composite
def tables(draw):
    count = draw(st.integers(1, 4))

    def of_each(values):
        return draw(st.lists(values, min_size=count, max_size=count))

    rows, dims = of_each(st.sampled_from([1, 2, 30, 5000])), of_each(st.sampled_from([4, 12, 16, 32, 64]))
    bags, longest = draw(st.integers(0, 40)), draw(st.sampled_from([1, 5, 60]))
    return Tables(draw(st.integers(0, 99)), rows, dims, of_each(st.integers(1, 3)), bags, longest)


@settings(max_examples=60)
@given(tables(), st.sampled_from([{}, {"weight_decay": 0.5, "weight_decay_mode": DECOUPLED}]))
def test_as_fbgemm_does(kernels, tables, decay):
    if tables.gradient.numel():
        torch.testing.assert_close(
            tables.pool(lambda *a: pooled(kernels, never, *a)), tables.pool(USUAL[POOLED]), atol=1e-5, rtol=1e-5
        )
    ours = tables.update(lambda *a: rowwise_adagrad(kernels, never, *a, *decay.values()))
    theirs = tables.update(lambda *a: rowwise_adagrad(None, USUAL[UPDATE], *a, *decay.values()))
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, atol=1e-5, rtol=1e-4)
    if not decay or all(count > 1 for count in tables.features):  # others FBGEMM 1.8 leaves as they are
        for mine, other in zip(ours, tables.update(USUAL[UPDATE], **decay), strict=True):
            torch.testing.assert_close(mine, other, atol=1e-5, rtol=1e-4)


def test_decay_takes_a_share_of_the_rows_looked_up_alone(kernels):
    tables = Tables(0, [90], [16], [1], 20, 2)
    tables.gradient[:] = 0
    weights, momentum = tables.update(lambda *a: rowwise_adagrad(kernels, never, *a, 0.5, DECOUPLED))
    kept = torch.ones(90, 1)
    kept[tables.ids] = 1 - 0.1 * 0.5  # 0.1 is the rate of `update`
    torch.testing.assert_close(weights.view(90, 16), tables.weights.view(90, 16) * kept)
    assert torch.equal(momentum, tables.momentum)


@pytest.mark.parametrize("others", [(0.5, 1), (0.5, 0), (0.0, 0, 3.0)], ids=["L2", "no kind", "a largest norm"])
def test_other_decays_are_left_to_fbgemm(kernels, others):
    tables, asked = Tables(0, [9], [16], [1], 5, 3), []
    tables.update(lambda *a: rowwise_adagrad(kernels, lambda *b, **_: asked.append(b), *a, *others))
    assert len(asked) == 1


def test_threads_change_nothing(kernels, monkeypatch):
    tables = Tables(0, [50, 70_000], [16, 12], [2, 1], 3000, 30)
    assert len(tables.ids) > 3 * cpu_tables._LOOKUPS_PER_THREAD
    results = []
    for threads in (1, 3):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        updated = tables.update(lambda *a: rowwise_adagrad(kernels, never, *a))
        results.append((tables.pool(lambda *a: pooled(kernels, never, *a)), *updated))
    assert all(torch.equal(one, three) for one, three in zip(*results, strict=True))


def test_steps_after_one_another(kernels):
    """What one step leaves in memory does not get into the next, larger or smaller."""
    for seed, bags in enumerate((20, 700, 3)):
        tables = Tables(seed, [90, 1000], [16, 32], [1, 1], bags, 9)
        ours = tables.update(lambda *a: rowwise_adagrad(kernels, never, *a))
        for mine, theirs in zip(ours, tables.update(USUAL[UPDATE]), strict=True):
            torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-4)


def test_a_gradient_that_is_not_a_number_stays_one(kernels):
    tables = Tables(0, [9], [16], [1], 5, 3)
    tables.gradient[:] = torch.nan
    weights, momentum = tables.update(lambda *a: rowwise_adagrad(kernels, never, *a))
    seen = tables.ids.unique()
    assert weights.reshape(9, 16)[seen].isnan().all()
    assert momentum[seen].isnan().all()


needs_half = pytest.mark.skipif(
    shutil.which("c++") is not None and not load_kernels().knows_half(), reason="the compiler has no float16"
)


@needs_half
@settings(max_examples=40)
@given(tables())
def test_float16_tables_are_looked_up_in_float32(kernels, tables):
    tables.weights = tables.weights.half()
    found = tables.pool(lambda *a: pooled(kernels, never, *a))
    tables.weights = tables.weights.float()
    assert found.dtype == torch.float32
    assert torch.equal(found, tables.pool(lambda *a: pooled(kernels, never, *a)))


@needs_half
@settings(max_examples=40)
@given(tables(), st.sampled_from([1.0, 1e-3, 3e-6, 1e5]))
def test_what_an_update_leaves_is_one_of_the_two_float16_numbers_around_it(kernels, tables, scale):
    tables.weights = (tables.weights * scale).half()
    rounded, momentum = tables.update(lambda *a: rowwise_adagrad(kernels, never, *a))
    tables.weights = tables.weights.float()
    exact, momentum_of_float32 = tables.update(lambda *a: rowwise_adagrad(kernels, never, *a))
    assert torch.equal(momentum, momentum_of_float32)
    nearest, infinite = exact.half(), torch.tensor(torch.inf, dtype=torch.float16)
    below = torch.where(nearest.float() > exact, torch.nextafter(nearest, -infinite), nearest)
    above = torch.where(nearest.float() < exact, torch.nextafter(nearest, infinite), nearest)
    assert ((rounded == below) | (rounded == above)).all()
    assert torch.equal(rounded[nearest == exact], nearest[nearest == exact])


@needs_half
def test_steps_too_small_for_a_float16_add_up(kernels):
    """Rounded to the nearest, a weight of 0.5 would never move by steps of 0.00001: float16 has 0.5 and 0.49976."""
    torch.manual_seed(0)
    tables = Tables(0, [512], [16], [1], 512, 1)
    tables.ids = torch.arange(512)
    tables.offsets = torch.arange(513)
    tables.weights[:], tables.momentum[:] = 0.5, 1.0
    tables.weights = tables.weights.half()
    for _ in range(200):
        tables.gradient = 1e-4 * (1 + 0.01 * torch.randn(512, 16))  # of one step and the next, never the same
        tables.weights, tables.momentum = tables.update(lambda *a: rowwise_adagrad(kernels, never, *a))
    moved = 0.5 - tables.weights.float().mean()
    assert 0.9 < moved / (200 * 0.1 * 1e-4) < 1.1  # 0.1 is the rate of `update`


@needs_half
def test_threads_change_nothing_in_float16_tables(kernels, monkeypatch):
    tables = Tables(0, [50, 70_000], [16, 12], [2, 1], 3000, 30)
    tables.weights = tables.weights.half()
    results = []
    for threads in (1, 3):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        results.append(tables.update(lambda *a: rowwise_adagrad(kernels, never, *a)))
    assert all(torch.equal(one, three) for one, three in zip(*results, strict=True))


@needs_half
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_what_is_no_number_stays_none_in_float16_tables(kernels, value):
    tables = Tables(0, [9], [16], [1], 5, 3)
    tables.weights = tables.weights.half()
    tables.weights[:] = value
    weights, _ = tables.update(lambda *a: rowwise_adagrad(kernels, never, *a))
    assert not weights.isfinite().any()


@pytest.mark.parametrize("change", ["bfloat16", "weighted", "means", "sequence", "ids", "negative id", "large id"])
def test_what_is_not_known_is_left_to_fbgemm(kernels, change):
    tables = Tables(0, [9, 20], [16, 16], [1, 1], 5, 3)
    tables.ids = tables.ids.clone()
    weights = None
    if change == "bfloat16":
        tables.weights = tables.weights.bfloat16()
    elif change == "weighted":
        weights = torch.ones(len(tables.ids))
    elif change == "sequence":
        tables.pooling = NONE
    elif change == "means":
        tables.pooling = MEAN
    elif change == "ids":
        tables.ids = tables.ids.int()
    else:
        tables.ids[0] = -1 if change == "negative id" else 9
    asked = []
    tables.pool(lambda *a: pooled(kernels, lambda *b: asked.append(b), *a), weights)
    assert len(asked) == 1
    if weights is None:
        tables.update(lambda *a, **named: rowwise_adagrad(kernels, lambda *b, **_: asked.append(b), *a, **named))
        assert len(asked) == 2


def test_decay_is_left_to_fbgemm(kernels):
    asked = []
    tables = Tables(0, [9], [16], [1], 5, 3)
    tables.update(
        lambda *a, **named: rowwise_adagrad(kernels, lambda *b, **_: asked.append(b), *a, **named), weight_decay=0.1
    )
    assert len(asked) == 1


def of_copies(kernels, usual, tables, *more, **named):
    largest = int(tables.dims.diff().max())
    told = (tables.weights, tables.starts, tables.dims, int(tables.dims[-1]), largest, tables.cumulated_rows, 62)
    lookups = (tables.ids, tables.offsets, tables.pooling, None, None)
    with torch.no_grad():
        return cpu_tables.pooled_of_copies(kernels, usual, KEYS, *told, *lookups, *more, **named)


@pytest.mark.parametrize(
    "more", [(), (0,), (0, None, None, None, -1, -1, -1, True), (0, None, None, None, -1, -1, -1, False)]
)
def test_tables_that_every_rank_has(kernels, more):
    tables = Tables(0, [9, 20], [16, 16], [1, 1], 5, 3)
    torch.testing.assert_close(of_copies(kernels, never, tables, *more), tables.pool(USUAL[POOLED]))


@pytest.mark.parametrize("named", [{}, {"output_dtype": 1}, {"output_dtype": 5}, {"max_B": 1}, {"vbe_output_size": 0}])
@pytest.mark.parametrize("more", [(), (1,), (0, torch.tensor([0]))])
def test_what_copies_are_asked_for_is_not_taken_for_nothing(kernels, more, named):
    """FBGEMM's number for half precision is 1, which is also True."""
    if not more and not named:
        return
    tables, asked = Tables(0, [9, 20], [16, 16], [1, 1], 5, 3), []
    of_copies(kernels, lambda *a, **k: asked.append((a, k)), tables, *more, **named)
    ((arguments, kept),) = asked
    assert arguments[13:] == more
    assert kept == named


def test_compiled_once(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    load_kernels()
    (kept,) = (tmp_path / "foundrank").iterdir()
    assert stat.S_IMODE(kept.parent.stat().st_mode) == 0o700
    monkeypatch.setattr(subprocess, "run", never)
    assert isinstance(load_kernels(), ctypes.CDLL)


def test_a_cache_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert isinstance(load_kernels(), ctypes.CDLL)


JOB = """
import torch
from foundrank.dist.sharding.cpu_tables import use_own_kernels
print(use_own_kernels())
bags = torch.ops.fbgemm.split_embedding_codegen_forward_cpu
ids, offsets, dims = torch.tensor([1, 0]), torch.tensor([0, 2]), torch.tensor([0, 4], dtype=torch.int32)
print(bags(torch.arange(8.0), torch.tensor([0]), dims, 4, torch.tensor([0, 2]), ids, offsets, 0, None, 0).tolist())
"""


@pytest.mark.parametrize(
    ("compiler", "plain"), [("c++", ""), ("no-such-compiler", ""), ("false", ""), ("c++", "tables")]
)
def test_in_the_place_of_fbgemms(compiler, plain):
    """Without a compiler, with one that fails, or switched off, FBGEMM's kernels stay."""
    environment = os.environ | {"CXX": compiler, "FOUNDRANK_PLAIN": plain}
    done = subprocess.run([sys.executable, "-c", JOB], capture_output=True, text=True, env=environment, check=True)
    said, result = done.stdout.splitlines()
    assert result == "[[4.0, 6.0, 8.0, 10.0]]"
    assert said == "FOUNDRANK_PLAIN says so" if plain else (said == "None") == (compiler == "c++")
    assert compiler == "c++" or compiler in said
    assert "Overriding" not in done.stderr


def test_the_source_is_part_of_the_package():
    assert Path(cpu_tables.SOURCE).name == "cpu_tables.cpp"
    assert cpu_tables.SOURCE.exists()


@needs_half
def test_float16_tables_that_these_kernels_cannot_train_are_refused_before_anything_is_counted(tmp_path):
    experiment = write_world(tmp_path, random_events(1, dict.fromkeys(SCHEMAS, 8)))
    half = load_experiment(tmp_path, ["training.table_precision=fp16"], kinds=KINDS)
    check_optimizer(experiment, "cpu")
    check_optimizer(half, "cpu")
    weighted = "entities.item.features.tags={kind: weighted_list, weights: tags}"
    listed = load_experiment(tmp_path, ["training.table_precision=fp16", weighted], kinds=KINDS)
    check_optimizer(listed, "cuda")
    with pytest.raises(UserError, match="the ids of list 'tags' have weights"):
        check_optimizer(listed, "cpu")
