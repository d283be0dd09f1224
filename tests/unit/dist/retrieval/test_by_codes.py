"""Ranking by codes, over all items and along a beam, against scores of all items one by one."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from foundrank.dist.retrieval import by_codes, search
from foundrank.dist.retrieval.by_codes import Beams, BeamSearch, CodeSums, places_of, ranking_by_codes
from foundrank.dist.retrieval.products import NEVER
from foundrank.dist.retrieval.rankings import ranks_of_scores
from foundrank.dist.retrieval.search import Exact
from foundrank.model.codes import DECODERS
from foundrank.model.codes.any_order import AnyOrderDecoder

SIZES, WIDTH = (3, 4, 2), 8
NOBODY = (torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.int64))
Gone = tuple[Tensor, Tensor]


def decoder_of(kind: str, beam: int = 50, sizes: tuple[int, ...] = SIZES):
    torch.manual_seed(0)
    decoder = DECODERS[kind](**({"beam": beam} if kind != "parallel" else {})).build(sizes, WIDTH)  # type: ignore[attr-defined]
    for parameter in decoder.parameters():
        torch.nn.init.normal_(parameter, std=0.6)
    return decoder.eval()


def world(seed: int, items: int, users: int) -> tuple[Tensor, Tensor, Tensor, Gone]:
    """Codes of which many are shared, states, hidden items, and what is gone."""
    g = torch.Generator().manual_seed(seed)
    codes = torch.stack([torch.randint(0, size, (items,), generator=g) for size in SIZES], 1)
    many = int(torch.randint(0, 3 * users + 1, (1,), generator=g))
    gone = torch.randint(0, users, (many,), generator=g), torch.randint(0, items, (many,), generator=g)
    return codes, torch.randn(users, WIDTH, generator=g), torch.rand(items, generator=g) < 0.25, gone


def slow_scores(decoder, codes: Tensor, states: Tensor) -> Tensor:
    """``[B, C]``, item after item; a unit test of decoders holds what `scores` are."""
    if isinstance(decoder, AnyOrderDecoder):
        return torch.stack([decoder.scores(states, code.expand(len(states), -1)) for code in codes], 1).detach()
    rows = [-len(SIZES) * decoder.losses(states, code.expand(len(states), -1), 0.0) for code in codes]
    return torch.stack(rows, 1).detach()


def users_of(decoder, states: Tensor) -> Tensor:
    return decoder.of_user(states).detach()


@given(seed=st.integers(0, 999), items=st.integers(1, 40), users=st.integers(1, 4))
def test_sums_are_the_scores_of_a_slow_count_in_any_block_and_pair_by_pair(seed, items, users):
    codes, states, hidden, _ = world(seed, items, users)
    decoder = decoder_of("parallel")
    sums, of_user = CodeSums(places_of(codes, SIZES), hidden), users_of(decoder, states)
    found = sums.of(of_user, sums.of_shared(of_user))
    wanted = slow_scores(decoder, codes, states).masked_fill(hidden, NEVER)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    assert len(sums) == items
    for part in (slice(0, 1), slice(items // 2, None)):
        assert torch.equal(sums.of(of_user, sums.of_shared(of_user), part), found[:, part])
    at = torch.randint(0, items, (users, 7))
    pairs = sums.pairs(of_user, at)
    shown = ~hidden[at]
    assert torch.equal(pairs[shown], found.gather(1, at)[shown])
    same = (codes[:, None] == codes[None]).all(2)
    for one in range(items):  # to the bit
        alike = same[one] & ~hidden
        assert (found[:, alike] == found[:, alike][:, :1]).all()


@pytest.mark.parametrize("kind", DECODERS)
@pytest.mark.parametrize("cells", [1 << 24, 1 << 13])
def test_pairs_are_the_scores_of_items(monkeypatch, kind, cells):
    monkeypatch.setattr(by_codes, "CELLS", cells)
    codes, states, hidden, _ = world(3, 30, 5)
    decoder = decoder_of(kind)
    ranking = ranking_by_codes(decoder, codes, hidden)
    at = torch.randint(0, 30, (5, 9))
    found = ranking.pairs(users_of(decoder, states), at)
    shown = ~hidden[at]
    wanted = slow_scores(decoder, codes, states).gather(1, at)
    torch.testing.assert_close(found[shown], wanted[shown], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", DECODERS)
@settings(max_examples=60)
@given(
    seed=st.integers(0, 999),
    items=st.integers(1, 40),
    barring=st.booleans(),
    drawing=st.booleans(),
    own_gone=st.booleans(),
)
def test_ranks_are_those_of_scores_of_all_items(kind, seed, items, barring, drawing, own_gone):
    codes, states, unknown, gone = world(seed, items, 4)
    decoder, g = decoder_of(kind), torch.Generator().manual_seed(seed)
    target = torch.randint(-1, items, (4,), generator=g)
    if own_gone:  # a past item may be the next
        gone = torch.cat([gone[0], torch.arange(4)[target >= 0]]), torch.cat([gone[1], target[target >= 0]])
    barred = (torch.rand(items, generator=g) < 0.3).expand(4, -1) if barring else None
    drawn = torch.randint(-1, items, (4, 6), generator=g) if drawing else None
    scores = slow_scores(decoder, codes, states).masked_fill(unknown, NEVER)
    wanted = ranks_of_scores(scores.clone(), target, gone, barred, drawn)
    ranking = ranking_by_codes(decoder, codes, unknown)
    found = ranking.ranks(users_of(decoder, states), target, gone, barred, drawn)
    assert found.tolist() == wanted.tolist()


def test_an_item_that_the_beam_does_not_reach_ranks_behind_all():
    codes, states, _, _ = world(0, 40, 30)
    decoder, none = decoder_of("autoregressive", beam=2), torch.zeros(40, dtype=torch.bool)
    scores, target = slow_scores(decoder, codes, states), torch.arange(30)
    wanted = ranks_of_scores(scores.clone(), target, NOBODY)
    found = Beams(decoder, codes, none).ranks(states, target, NOBODY, None, None)
    assert ((found == wanted) | (found == 40)).float().mean() > 0.8
    assert (found == 40).any()
    assert (found < 40).any()
    assert (found <= 40).all()


def test_an_item_aside_that_is_behind_all_that_were_found_ranks_behind_all():
    sizes, items = (16, 16, 16), 900
    g = torch.Generator().manual_seed(1)
    codes = torch.stack([torch.randint(0, size, (items,), generator=g) for size in sizes], 1)
    decoder, states = decoder_of("autoregressive", 30, sizes), torch.randn(1, WIDTH, generator=g)
    ranking = Beams(decoder, codes, torch.zeros(items, dtype=torch.bool))
    order = ranking.pairs(states, torch.arange(items)[None])[0].argsort(descending=True)
    # Enough are found, and not so many as there are places, as some of those that come first are past.
    gone = torch.zeros(6, dtype=torch.int64), order[:6]
    for at, rank in ((10, 4), (800, items)):
        barred = torch.zeros(1, items, dtype=torch.bool)
        barred[0, order[at]] = True
        assert ranking.ranks(states, order[at : at + 1], gone, barred, None).tolist() == [rank]


Searching = Callable[[Tensor], search.Search]


@pytest.mark.parametrize("kind", DECODERS)
@settings(max_examples=80)
@given(
    seed=st.integers(0, 999),
    items=st.integers(1, 40),
    k=st.integers(1, 45),
    beam=st.integers(1, 3),
    users=st.integers(1, 5),
)
def test_the_best_are_always_as_many_as_there_are_and_none_is_hidden_or_gone(kind, seed, items, k, beam, users):
    codes, states, hidden, gone = world(seed, items, users)
    decoder = decoder_of(kind, beam)
    scores, at = (
        ranking_by_codes(decoder, codes, torch.zeros(items, dtype=torch.bool))
        .search(hidden)
        .best(users_of(decoder, states), k, gone)
    )
    every = slow_scores(decoder, codes, states)
    allowed = (~hidden).expand(users, -1).clone()
    allowed[gone] = False
    for row in range(users):
        there = scores[row] > NEVER if scores.shape[1] else torch.zeros(0, dtype=torch.bool)
        mine = at[row][there]
        assert len(mine) == min(k, int(allowed[row].sum()))
        assert len(mine.unique()) == len(mine)
        assert allowed[row][mine].all()
        assert (scores[row][:-1] >= scores[row][1:]).all()
        torch.testing.assert_close(scores[row][there], every[row][mine], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", DECODERS)
def test_of_equal_items_the_first_come_first(kind):
    codes = torch.tensor([[0, 0, 0], [1, 2, 1]] * 6)
    decoder, states = decoder_of(kind), torch.randn(3, WIDTH, generator=torch.Generator().manual_seed(0))
    none = torch.zeros(12, dtype=torch.bool)
    _, at = ranking_by_codes(decoder, codes, none).search(none).best(users_of(decoder, states), 9, NOBODY)
    for row in at.tolist():
        first, second = row[:6], row[6:]
        assert first == list(range(row[0], 12, 2))
        assert second == list(range(1 - row[0], 12, 2))[:3]


@settings(max_examples=40)
@given(seed=st.integers(0, 999), items=st.integers(1, 40), k=st.integers(1, 45))
def test_a_wide_beam_finds_what_an_exact_search_finds(seed, items, k):
    codes, states, hidden, gone = world(seed, items, 3)
    decoder = decoder_of("autoregressive", 500)
    scores, _ = BeamSearch(decoder, codes, hidden).best(states, k, gone)
    every = slow_scores(decoder, codes, states).masked_fill(hidden, NEVER)
    every[gone] = NEVER
    wanted = every.sort(1, descending=True)[0][:, : scores.shape[1]]
    torch.testing.assert_close(scores, wanted, rtol=1e-4, atol=1e-4)


def test_no_users_and_no_items_are_no_error():
    codes, states, _, _ = world(0, 9, 2)
    decoder = decoder_of("autoregressive")
    assert BeamSearch(decoder, codes, torch.ones(9, dtype=torch.bool)).best(states, 3, NOBODY)[1].shape == (2, 0)
    assert BeamSearch(decoder, codes, torch.zeros(9, dtype=torch.bool)).best(states[:0], 3, NOBODY)[1].shape[0] == 0


def test_many_users_are_searched_some_at_a_time():
    codes, states, hidden, _ = world(0, 40, 150)
    decoder = decoder_of("autoregressive")
    together = BeamSearch(decoder, codes, hidden).best(states, 5, NOBODY)
    for start in (0, 60, 149):
        alone = BeamSearch(decoder, codes, hidden).best(states[start : start + 1], 5, NOBODY)
        torch.testing.assert_close(alone[0][0], together[0][start], rtol=1e-4, atol=1e-5)
        assert alone[1][0].tolist() == together[1][start].tolist()


@pytest.mark.parametrize("cells", [1, 30])
def test_blocks_of_sums_find_what_one_block_finds(monkeypatch, cells):
    codes, states, hidden, gone = world(5, 40, 4)
    decoder = decoder_of("parallel")
    users, sums = users_of(decoder, states), CodeSums(places_of(codes, SIZES), hidden)
    wanted = Exact(sums).best(users, 6, gone)
    monkeypatch.setattr(search, "CELLS", cells)
    for found, of_one in zip(Exact(sums).best(users, 6, gone), wanted, strict=True):
        assert np.array_equal(found, of_one)
