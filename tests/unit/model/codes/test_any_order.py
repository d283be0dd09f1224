"""Codes in any order, against probabilities level by level; and the search along orders."""

import math
from itertools import permutations

import pytest
import torch
from torch import Tensor, nn

from foundrank.data.errors import UserError
from foundrank.model.codes.any_order import AnyOrder, AnyOrderDecoder, InOrder
from foundrank.model.codes.beam import NEVER
from foundrank.model.codes.paths import Paths
from foundrank.model.codes.trie import Trie

SIZES, WIDTH, ROWS = (5, 2, 7), 8, 11


def decoder_of(paths: int = 2) -> AnyOrderDecoder:
    torch.manual_seed(0)
    decoder = AnyOrder(paths=paths).build(SIZES, WIDTH)
    for parameter in decoder.parameters():
        nn.init.normal_(parameter, std=0.5)
    assert isinstance(decoder, AnyOrderDecoder)
    return decoder.eval()


def states_of(rows: int = ROWS, seed: int = 1) -> Tensor:
    return 2 * torch.randn(rows, WIDTH, generator=torch.Generator().manual_seed(seed))


def conditional(decoder: AnyOrderDecoder, state: Tensor, known: dict[int, int], level: int) -> Tensor:
    """``[V]`` log-probabilities of a level given some others, one place after the other."""
    starts = (0, 5, 7)
    places = [
        (decoder.codes.weight[starts[at] + known[at]] if at in known else state) + decoder.levels[at] for at in range(3)
    ]
    x = torch.stack(places)[None]
    for block in decoder.blocks:
        x, _ = block(x, None)
    begin = starts[level]
    return (decoder.norm(x)[0, level] @ decoder.outputs[begin : begin + SIZES[level]].T).log_softmax(0)


def slow_orders(decoder: AnyOrderDecoder, state: Tensor, paths: int) -> list[list[int]]:
    entropies = [
        torch.distributions.Categorical(logits=conditional(decoder, state, {}, at)).entropy().item() for at in range(3)
    ]
    surest = sorted(range(3), key=entropies.__getitem__)
    return [[first, *(at for at in surest if at != first)] for first in surest[:paths]]


def slow_score(decoder: AnyOrderDecoder, state: Tensor, codes: list[int], orders: list[list[int]]) -> float:
    mean = 0.0
    for order in orders:
        known: dict[int, int] = {}
        total = 0.0
        for level in order:
            total += float(conditional(decoder, state, known, level)[codes[level]])
            known[level] = codes[level]
        mean += math.exp(total) / len(orders)
    return math.log(mean)


@pytest.mark.parametrize("paths", [1, 2, 3])
@torch.no_grad()
def test_an_item_s_score_is_the_mean_probability_over_the_user_s_orders_the_surest_first(paths: int):
    decoder, states = decoder_of(paths), states_of()
    codes = torch.stack([torch.randint(0, size, (ROWS,)) for size in SIZES], 1)
    found, orders = decoder.scores(states, codes), decoder.orders(states)
    for row in range(ROWS):
        assert orders[row].tolist() == slow_orders(decoder, states[row], paths)
        wanted = slow_score(decoder, states[row], codes[row].tolist(), orders[row].tolist())
        assert float(found[row]) == pytest.approx(wanted, abs=1e-4)
    assert len({tuple(order) for order in orders[:, 0].tolist()}) > 1  # users have orders of their own
    every = torch.cartesian_prod(*map(torch.arange, SIZES))
    whole = decoder.scores(states[:1].expand(len(every), -1), every)
    torch.testing.assert_close(whole.exp().sum(), torch.tensor(1.0))


@torch.no_grad()
def test_a_row_s_items_are_scored_along_its_orders_whatever_is_dropped():
    decoder, states = decoder_of(2), states_of(4)
    codes = torch.stack([torch.randint(0, size, (4, 6)) for size in SIZES], 2)
    wanted = decoder.scores(states.repeat_interleave(6, 0), codes.view(-1, 3)).view(4, 6)
    torch.testing.assert_close(decoder.group_scores(states, codes), wanted)
    orders = decoder.orders(states)
    assert torch.equal(decoder.train().orders(states), orders)
    assert decoder.training
    assert decoder.blocks[0].training


@torch.no_grad()
def test_a_step_in_order_is_the_probability_given_the_codes_before():
    decoder, states = decoder_of(), states_of(3)
    for order in permutations(range(3)):
        steps = InOrder(decoder, order)
        found, cache = steps.begin(states)
        known: list[dict[int, int]] = [{}, {}, {}]
        for depth, level in enumerate(order):
            for row in range(3):
                torch.testing.assert_close(found[row], conditional(decoder, states[row], known[row], level))
                known[row][level] = row % SIZES[level]
            if depth < 2:
                chosen = torch.tensor([row % SIZES[level] for row in range(3)])
                found, cache = steps.follow(depth + 1, chosen, cache)


def test_the_loss_is_in_the_mean_that_of_all_orders():
    decoder = decoder_of()
    state, codes = states_of(1), torch.tensor([[3, 1, 5]])
    torch.manual_seed(5)
    with torch.no_grad():
        found = decoder.losses(state.expand(10_000, -1), codes.expand(10_000, -1), 0.0).mean()
        of_orders = [slow_score(decoder, state[0], [3, 1, 5], [list(order)]) for order in permutations(range(3))]
    assert float(found) == pytest.approx(-sum(of_orders) / 6 / 3, rel=0.01)
    torch.manual_seed(5)
    with torch.no_grad():
        smoothed = decoder.losses(state.expand(10_000, -1), codes.expand(10_000, -1), 1e-9).mean()
    assert float(smoothed) == pytest.approx(float(found), rel=1e-4)


@pytest.mark.parametrize("paths", [1, 3])
@torch.no_grad()
def test_a_wide_search_finds_what_a_slow_count_of_all_codes_finds(paths: int):
    g = torch.Generator().manual_seed(2)
    decoder, states = decoder_of(paths), states_of(6)
    codes = torch.stack([torch.randint(0, size, (30,), generator=g) for size in SIZES], 1)
    trie = Trie.of(codes.numpy(), SIZES, torch.arange(30).numpy(), torch.device("cpu"))
    leaves = trie.codes()
    assert {tuple(row) for row in leaves.tolist()} == {tuple(row) for row in codes.tolist()}
    assert len(leaves) == trie.leaves
    scores, at = Paths(decoder, trie)(states, 30)
    wanted = torch.stack([decoder.scores(states, leaf.expand(6, -1)) for leaf in leaves], 1)
    there = scores > NEVER
    assert there.sum(1).tolist() == [len(leaves)] * 6
    for row in range(6):
        torch.testing.assert_close(scores[row][there[row]], wanted[row].sort(descending=True).values)
        torch.testing.assert_close(wanted[row, at[row][there[row]]], scores[row][there[row]])
    assert (scores[:, 1:] <= scores[:, :-1]).all()
    few, _ = Paths(decoder, trie)(states, 2)
    assert ((few > NEVER).sum(1) <= 2 * paths).all()
    assert (few[:, 0] <= scores[:, 0] + 1e-5).all()


@pytest.mark.parametrize(
    ("levels", "told"),
    [(6, "items have 6 codes, which have too many orders"), (2, r"paths: is 3, and items have 2 codes")],
)
def test_codes_that_do_not_fit_are_told(levels: int, told: str):
    with pytest.raises(UserError, match=told):
        AnyOrder(paths=3).build([4] * levels, WIDTH)
