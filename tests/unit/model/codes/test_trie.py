"""The tree of codes against a dictionary, and the search along it against all items."""

from collections import defaultdict

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from foundrank.model.codes.autoregressive import Autoregressive, AutoregressiveDecoder
from foundrank.model.codes.beam import NEVER, beam_search
from foundrank.model.codes.trie import Trie

CPU = torch.device("cpu")
SIZES = st.lists(st.integers(2, 5), min_size=1, max_size=4)


def some_codes(sizes: list[int], items: int, seed: int) -> np.ndarray:
    """``[C, M]``, some of them the same."""
    random = np.random.default_rng(seed)
    distinct = random.integers(0, sizes, (max(1, items // 2), len(sizes)))
    return distinct[random.integers(0, len(distinct), items)]


def decoder_of(sizes: list[int], seed: int = 0, layers: int = 2) -> AutoregressiveDecoder:
    torch.manual_seed(seed)
    decoder = Autoregressive(layers=layers, heads=2).build(sizes, 8)
    for parameter in decoder.parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    return decoder.eval()


def states_of(rows: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, 8, generator=torch.Generator().manual_seed(seed))


@given(sizes=SIZES, items=st.integers(0, 30), seed=st.integers(0, 999))
def test_children_and_items_are_those_of_a_dictionary(sizes, items, seed):
    codes = some_codes(sizes, items, seed)
    positions = np.sort(np.random.default_rng(seed).permutation(3 * items)[:items])
    trie = Trie.of(codes, sizes, positions, CPU)
    children: dict[tuple[int, ...], set[int]] = defaultdict(set)
    of_codes: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for row, position in zip(codes.tolist(), positions.tolist(), strict=True):
        of_codes[tuple(row)].append(position)
        for depth, value in enumerate(row):
            children[tuple(row[:depth])].add(value)
    assert trie.leaves == len(of_codes)
    nodes: dict[tuple[int, ...], int] = {(): 0}
    for depth in range(len(sizes) if items else 0):
        paths = sorted(path for path in nodes if len(path) == depth)
        found, there = trie.children(depth, torch.tensor([nodes[path] for path in paths]))
        assert found.shape == there.shape == (len(paths), max(len(children[path]) for path in paths))
        for path, line, real in zip(paths, found.tolist(), there.tolist(), strict=True):
            below = [node for node, one in zip(line, real, strict=True) if one]
            values = trie.values[depth][below].tolist()
            assert values == sorted(children[path])
            nodes |= {(*path, value): node for value, node in zip(values, below, strict=True)}
        here = [node for path, node in nodes.items() if len(path) == depth + 1]
        assert sorted(here) == list(range(len(here)))
        assert trie.values[depth].tolist() == [path[-1] for path in sorted(nodes) if len(path) == depth + 1]
    leaves = [path for path in nodes if len(path) == len(sizes)]
    for most in (1, 2, 99):
        row, at = trie.items_of(torch.tensor([nodes[path] for path in leaves], dtype=torch.int64), most)
        got = defaultdict(list)
        for one, item in zip(row.tolist(), at.tolist(), strict=True):
            got[leaves[one]].append(item)
        assert dict(got) == {path: of_codes[path][:most] for path in leaves}


@settings(max_examples=40)
@given(sizes=SIZES, items=st.integers(1, 30), seed=st.integers(0, 99), rows=st.integers(1, 4))
def test_a_wide_beam_finds_what_all_scores_say(sizes, items, seed, rows):
    codes, decoder, states = some_codes(sizes, items, seed), decoder_of(sizes, seed), states_of(rows, seed)
    trie = Trie.of(codes, sizes, np.arange(items), CPU)
    with torch.no_grad():
        scores, leaves = beam_search(decoder, states, trie, 1000)
        distinct = torch.from_numpy(np.unique(codes, axis=0))
        every = torch.stack([decoder.scores(states, of.expand(rows, -1)) for of in distinct], 1)
    assert scores.shape == (rows, len(distinct))
    wanted, order = every.sort(1, descending=True)
    torch.testing.assert_close(scores, wanted, rtol=0, atol=1e-4)
    torch.testing.assert_close(every.gather(1, leaves), scores, rtol=0, atol=1e-4)  # leaves are in the order of codes
    apart = (wanted[:, 1:] - wanted[:, :-1]).abs() > 1e-3
    clear = torch.cat([apart, apart.new_ones(rows, 1)], 1) & torch.cat([apart.new_ones(rows, 1), apart], 1)
    assert torch.equal(leaves[clear], order[clear])
    assert all(len(set(row)) == len(row) for row in leaves.tolist())


@settings(max_examples=40)
@given(sizes=SIZES, items=st.integers(1, 40), seed=st.integers(0, 99), beams=st.integers(1, 6))
def test_a_narrow_beam_finds_codes_that_items_have_each_once_and_scores_them_right(sizes, items, seed, beams):
    codes, decoder, states = some_codes(sizes, items, seed), decoder_of(sizes, seed), states_of(3, seed)
    trie, distinct = Trie.of(codes, sizes, np.arange(items), CPU), torch.from_numpy(np.unique(codes, axis=0))
    with torch.no_grad():
        scores, leaves = beam_search(decoder, states, trie, beams)
        assert 1 <= scores.shape[1] <= beams
        assert (scores[:, 0] > NEVER).all()
        for row in range(3):
            there = scores[row] > NEVER
            mine = leaves[row][there]
            assert len(mine.unique()) == len(mine)
            assert ((mine >= 0) & (mine < trie.leaves)).all()
            wanted = decoder.scores(states[row].expand(len(mine), -1), distinct[mine])
            torch.testing.assert_close(scores[row][there], wanted, rtol=0, atol=1e-4)
            assert (scores[row][:-1] >= scores[row][1:]).all()


def test_a_beam_without_a_child_does_not_come_back():
    # One item begins with 0, and all others with 1: of a beam of two, one has a single child at each depth.
    codes = np.array([[0, 0, 0], *([1, one, two] for one in range(3) for two in range(3))])
    decoder, trie = decoder_of([2, 3, 3]), Trie.of(codes, [2, 3, 3], np.arange(10), CPU)
    scores, leaves = beam_search(decoder, states_of(50), trie, 9)
    assert scores.shape == (50, 9)
    assert all(len(set(row)) == 9 for row in leaves.tolist())


def test_the_widest_beam_finds_the_best():
    codes, decoder, states = some_codes([5, 5, 5], 80, 0), decoder_of([5, 5, 5]), states_of(20)
    trie = Trie.of(codes, [5, 5, 5], np.arange(80), CPU)
    best = [beam_search(decoder, states, trie, beams)[0][:, 0] for beams in (1, 2, 8, 100)]
    assert all((best[-1] >= less - 1e-5).all() for less in best)
    assert (best[-1] > best[0] + 1e-3).any()


@pytest.mark.parametrize("layers", [1, 2])
def test_step_by_step_is_as_all_at_once(layers):
    sizes, rows = [4, 3, 6, 2], 7
    decoder, states = decoder_of(sizes, layers=layers), states_of(rows)
    codes = torch.from_numpy(np.random.default_rng(0).integers(0, sizes, (rows, 4)))
    with torch.no_grad():
        together = decoder._given(states, codes)
        found, cache = decoder.begin(states)
        torch.testing.assert_close(found, together[0])
        for level in range(1, 4):
            found, cache = decoder.follow(level, codes[:, level - 1], cache)
            assert found.shape == (rows, sizes[level])
            torch.testing.assert_close(found, together[level], rtol=1e-4, atol=1e-5)
            assert len(cache) == layers
