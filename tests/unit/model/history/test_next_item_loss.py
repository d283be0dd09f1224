"""The losses of the next-item objective, and what is to be found."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from foundrank.data.batch.batch import Batch
from foundrank.data.batch.past_items import Past
from foundrank.data.config.sections.next_item import NextItemConfig
from foundrank.model.history.catalog_softmax import cross_entropy_among_all
from foundrank.model.history.next_item_loss import Negatives, NextItem
from foundrank.model.history.sequence import Sequence, ToFind
from foundrank.model.history.transformer import following, own

WIDTH, ROWS, BATCH = 4, 12, 16  # rows of the item table, the unknown one included


class Shown:
    """An encoder whose states are given."""

    def __init__(self, states: Tensor):
        self.states = states

    def to_find(self, sequence: Sequence, every: bool) -> ToFind:
        if every:
            return ToFind(self.states, following(sequence))
        return ToFind(sequence.newest(self.states), own(sequence))


@pytest.fixture
def world() -> SimpleNamespace:
    """Rows of 3, 0 and 2 past items; vectors of all items of the table."""
    g = torch.Generator().manual_seed(1)
    table = torch.randn(ROWS, WIDTH, generator=g)
    rows, own_rows, candidates = torch.tensor([3, 5, 3, 7, 9]), torch.tensor([2, 4, 5]), torch.tensor([1, 5, 8, 2, 8])
    counts = torch.arange(ROWS).float()
    lengths = torch.tensor([3, 0, 2])
    none = torch.full_like(rows, -1)
    past = Past(
        rows=rows, at=none, lengths=lengths, counts=counts[rows], item_rows=own_rows, chosen=torch.ones(3, dtype=torch.bool),
        candidates=candidates, candidate_counts=counts[candidates], keys=none, ages=torch.zeros_like(rows), domains=none, dense=torch.zeros(len(rows) + len(candidates), 0), described=torch.zeros(len(rows) + len(candidates), dtype=torch.bool), vectors={}, vector_at={},
        longest=3, trained_items=ROWS - 1, trained_events=int(counts.sum()),
    )  # fmt: skip
    sequence = Sequence(
        table[rows], lengths, torch.tensor([0, 0, 0, 2, 2]), torch.tensor([2, 1, 0, 1, 0]), 3, past.ages
    )
    nothing: Any = None
    batch = Batch(
        sparse=nothing, dense=torch.zeros(3, 0), vectors={}, vector_present={}, id_counts=counts[own_rows, None],
        labels=torch.zeros(3, 1), label_mask=torch.zeros(3, 1, dtype=torch.bool), domains=torch.zeros(3).long(),
        domain_lengths=[3], past=past,
    )  # fmt: skip
    states = torch.randn(5, WIDTH, generator=g)
    return SimpleNamespace(
        table=table,
        past=past,
        sequence=sequence,
        own=table[own_rows],
        batch=batch,
        history=Shown(states),
        states=states,
    )


def loss_of(
    world: SimpleNamespace, candidates: Tensor | None = None, width: int = WIDTH, **config: Any
) -> tuple[float, list[float]]:
    """The loss, and the sum and count it tells."""
    past = world.past
    if candidates is not None:
        past = replace(past, candidates=candidates, candidate_counts=candidates.float())
    world.batch.past = past
    objective = NextItem(NextItemConfig.model_validate(config), BATCH, width, ROWS)
    vectors = world.table[past.candidates]
    items = torch.cat([world.sequence.items, world.own])
    loss, told = objective(world.history, world.sequence, lambda: items, vectors, world.batch)
    return loss.item(), told.tolist()


FOUND = [5, 3, 2, 9, 5]  # what follows each of the five past items


def test_all_positions_against_all_items_is_the_cross_entropy_of_the_whole_catalog(world):
    scores = world.states @ world.table[1:].T / WIDTH**0.5
    expected = F.cross_entropy(scores, torch.tensor(FOUND) - 1, reduction="sum").item()
    every = torch.arange(1, ROWS)
    loss, told = loss_of(world, every, loss="softmax", positions="all", weight=0.5)
    assert told == [pytest.approx(expected), 5]
    assert loss == pytest.approx(0.5 * expected / BATCH)
    # Sampled, with every item drawn once, it is the same: what is to be found is not its own negative.
    assert loss_of(world, every, positions="all")[0] == pytest.approx(expected / BATCH)
    assert loss_of(world, every.flip(0), loss="softmax", positions="all")[1][0] == pytest.approx(expected)


@pytest.mark.parametrize("loss", ["softmax", "sampled_softmax", "gbce"])
def test_narrower_widths_are_learned_by_their_leading_numbers_alone(world, loss: str):
    every = torch.arange(1, ROWS)
    config: dict[str, Any] = {"loss": loss, "positions": "all"}
    whole = loss_of(world, every, **config)[1][0]
    alone = {}
    for width in (1, 3):  # a model of that width, whose vectors are these
        narrow = SimpleNamespace(**vars(world))
        narrow.table, narrow.own = world.table[:, :width], world.own[:, :width]
        narrow.sequence = replace(world.sequence, items=world.sequence.items[:, :width])
        narrow.history = Shown(F.normalize(world.states[:, :width], dim=1) * width**0.5)
        alone[width] = loss_of(narrow, every, width=width, **config)[1][0]
    told, count = loss_of(world, every, widths=[3, WIDTH], **config)[1]
    assert told == pytest.approx((whole + alone[3]) / 2, rel=1e-5)
    assert count == 5
    told, _ = loss_of(world, every, widths=[1, 3, WIDTH], **config)[1]
    assert told == pytest.approx((whole + alone[1] + alone[3]) / 3, rel=1e-5)


@pytest.mark.parametrize("widths", [[8, 4, 16], [16], [4, 4]])
def test_widths_increase(widths: list[int]):
    with pytest.raises(ValueError, match="they increase"):
        NextItemConfig.model_validate({"widths": widths})


def test_the_last_position_alone_finds_the_rows_own_item(world):
    scores = world.states[[2, 4]] @ world.table[1:].T / WIDTH**0.5
    expected = F.cross_entropy(scores, torch.tensor([2, 5]) - 1, reduction="sum").item()
    _, told = loss_of(world, torch.arange(1, ROWS), loss="softmax")
    assert told == [pytest.approx(expected), 2]  # the row without a past has no state


def test_rows_that_were_not_chosen_have_nothing_to_find(world):
    world.batch.past.chosen = torch.tensor([False, False, True])
    assert loss_of(world)[1][1] == 1
    assert loss_of(world, positions="all")[1][1] == 4  # past items were chosen by having become past


def test_an_item_of_which_nothing_is_known_is_not_to_be_found(world):
    world.own[2] = 0
    assert loss_of(world)[1][1] == 1


def test_sampled_softmax_leaves_out_drawn_items_that_are_to_be_found(world):
    expected = 0.0
    for state, found in zip(world.states, FOUND, strict=True):
        negatives = [row for row in world.past.candidates.tolist() if row != found]
        scores = world.table[[found, *negatives]] @ state / WIDTH**0.5
        expected -= scores.log_softmax(0)[0].item()
    assert loss_of(world, positions="all")[1][0] == pytest.approx(expected, rel=1e-5)


def test_items_of_the_batch_weigh_less_the_more_often_they_are_there(world):
    torch.manual_seed(3)
    some = torch.randperm(5)[:3].tolist()
    torch.manual_seed(3)
    got = loss_of(world, positions="all", in_batch=3)[1][0]
    drawn, events, items = world.past.candidates.tolist(), world.past.trained_events, ROWS - 1
    rows = [*drawn, *(FOUND[at] for at in some)]
    seen = [len(drawn) / items + 3 * row / events for row in rows]  # a row's count is its number here
    weights = torch.tensor([len(rows) / items / s for s in seen])
    expected = 0.0
    for state, found in zip(world.states, FOUND, strict=True):
        others = torch.tensor([row != found for row in rows])
        negative = (weights * (world.table[rows] @ state / WIDTH**0.5).exp())[others].sum()
        positive = (world.table[found] @ state / WIDTH**0.5).exp()
        expected -= (positive / (positive + negative)).log().item()
    assert got == pytest.approx(expected, rel=1e-5)


def test_gbce_is_the_loss_of_gsasrec(world):
    calibration, drawn = 0.75, world.past.candidates.tolist()
    rate = len(drawn) / (ROWS - 2)
    beta = rate * (calibration * (1 - 1 / rate) + 1 / rate)
    expected = 0.0
    for state, found in zip(world.states, FOUND, strict=True):
        score = (world.table[found] @ state / WIDTH**0.5).sigmoid()
        expected -= beta * score.log().item()
        for row in drawn:
            if row != found:
                expected -= (1 - (world.table[row] @ state / WIDTH**0.5).sigmoid()).log().item()
    assert loss_of(world, loss="gbce", positions="all")[1][0] == pytest.approx(expected, rel=1e-5)


ITEMS_OF = [{2, 3, 4, 8}, {1, 5, 7, 8, 9}]  # of two domains, one of them shared


def within_domains(world: SimpleNamespace, candidates: list[int], own_candidates: bool) -> None:
    """Has rows be of two domains, and candidates be those of a row's own; or of each the ones drawn for it, in turn."""
    past = world.batch.past
    assert past is not None
    world.batch.domains = torch.tensor([0, 0, 1])
    found = torch.tensor([[row in of for of in ITEMS_OF] for row in [*past.rows.tolist(), *past.item_rows.tolist()]])
    drawn = torch.tensor([[row in of for of in ITEMS_OF] for row in candidates])
    if own_candidates:
        drawn &= torch.tensor([[at % 2 == 0, at % 2 == 1] for at in range(len(candidates))])
    counts = tuple((len(of), sum(of) / len(of)) for of in ITEMS_OF)  # a row's count is its number here
    world.past = replace(past, of_domain=torch.cat([found, drawn]), domain_items=counts)


def learned(world: SimpleNamespace) -> list[tuple[Tensor, int, int]]:
    """State, what it finds and its domain, of those that find an item of their domain."""
    every = zip(world.states, FOUND, [0, 0, 0, 1, 1], strict=True)
    return [(state, found, domain) for state, found, domain in every if found in ITEMS_OF[domain]]


def test_within_domains_the_softmax_is_among_the_items_of_a_row_s_own(world):
    every = list(range(1, ROWS))
    within_domains(world, every, own_candidates=False)
    expected, to_learn = 0.0, learned(world)
    for state, found, domain in to_learn:
        others = sorted(ITEMS_OF[domain])
        scores = world.table[others] @ state / WIDTH**0.5
        logs = scores.log_softmax(0)
        expected -= 0.8 * logs[others.index(found)].item() + 0.2 * logs.mean().item()
    got = loss_of(world, torch.tensor(every), loss="softmax", positions="all", label_smoothing=0.2)
    assert len(to_learn) == 4  # 5 is none of the first domain's
    assert got[1] == [pytest.approx(expected, rel=1e-5), 4]


@pytest.mark.parametrize("in_batch", [0, 4])
@pytest.mark.parametrize("loss", ["sampled_softmax", "gbce"])
def test_within_domains_negatives_are_those_drawn_for_a_row_s_own_and_others_of_it(world, loss, in_batch):
    candidates = [3, 5, 8, 8, 2, 7]
    within_domains(world, candidates, own_candidates=True)
    torch.manual_seed(3)
    some = [at for at in torch.randperm(5)[:in_batch].tolist() if at != 0]  # the first state finds nothing
    torch.manual_seed(3)
    got = loss_of(world, torch.tensor(candidates), loss=loss, positions="all", in_batch=in_batch)[1]
    expected, events = 0.0, world.past.trained_events
    for state, found, domain in learned(world):
        of = ITEMS_OF[domain]
        drawn = [row for at, row in enumerate(candidates) if at % 2 == domain]
        rows = [*drawn, *(FOUND[at] for at in some if FOUND[at] in of)]
        score = {row: world.table[row] @ state / WIDTH**0.5 for row in {found, *rows}}
        if loss == "gbce":
            rate = len(rows) / (len(of) - 1)
            beta = rate * (0.75 * (1 - 1 / rate) + 1 / rate)
            expected += beta * F.softplus(-score[found]).item()
            expected += sum(F.softplus(score[row]).item() for row in rows if row != found)
            continue
        weight = {
            row: (len(drawn) / len(of) + len(some) / events * sum(of) / len(of))
            / (len(drawn) / len(of) + len(some) / events * row)
            for row in rows
        }
        negative = sum(weight[row] * score[row].exp() for row in rows if row != found)
        expected -= (score[found].exp() / (score[found].exp() + negative)).log().item()
    assert got == [pytest.approx(expected, rel=1e-5), 4]


@pytest.mark.parametrize("loss", ["sampled_softmax", "gbce"])
def test_targets_of_states_that_find_nothing_are_no_negatives(world, loss):
    """On CPUs they are left out before; where that would have to be waited for, they weigh nothing."""
    objective = NextItem(NextItemConfig.model_validate({"loss": loss, "in_batch": 3}), 1, WIDTH, 10)
    g = torch.Generator().manual_seed(5)
    states, items, others = (torch.randn(n, WIDTH, generator=g) for n in (2, 2, 4))
    rows, weights = torch.tensor([3, 5, 4, 6]), torch.tensor([1.0, 0.5, 0.0, 2.0])
    own, there = torch.tensor([5, 7]), weights > 0
    every = objective._losses(states, items, own, Negatives(others, torch.where(there, rows, -1), weights), 9)
    alone = objective._losses(states, items, own, Negatives(others[there], rows[there], weights[there]), 9)
    torch.testing.assert_close(every, alone)


@pytest.mark.parametrize("loss", ["softmax", "sampled_softmax", "gbce"])
@pytest.mark.parametrize("in_batch", [0, 4])
def test_a_batch_without_rows_of_a_domain_learns_of_the_other(world, loss, in_batch):
    candidates = list(range(1, ROWS))
    within_domains(world, candidates, own_candidates=loss != "softmax")
    world.batch.domains = torch.tensor([0, 0, 0])
    settings = {"in_batch": in_batch} if loss != "softmax" else {}
    assert loss_of(world, torch.tensor(candidates), loss=loss, positions="all", **settings)[1][1] > 0


def test_a_domain_without_candidates_learns_nothing(world):
    within_domains(world, [1, 7], own_candidates=False)
    assert loss_of(world, torch.tensor([1, 7]), positions="all")[1][1] == 2


def test_what_is_learned_beside_is_told_of_each_pool_and_of_all_rows_at_once(world):
    def beside(pools: Any, weights: Tensor, scale: float) -> Tensor:
        given.append(([rows.tolist() for _, rows in pools], weights.tolist()))
        return weights.sum()

    given: list[Any] = []
    world.history.to_find = lambda sequence, every: ToFind(world.states, following(sequence), beside=beside)
    for candidates, of_pools in (([1, 7, 4], [[1, 0, 0], [0, 0, 1]]), ([1, 7], [[0, 0, 1]])):
        within_domains(world, candidates, own_candidates=False)
        loss, (found, _) = loss_of(world, torch.tensor(candidates), positions="all")
        assert (given.pop(), loss * BATCH - found) == ((of_pools, [1, 0, 1]), pytest.approx(2, abs=1e-5))


def test_a_step_of_reasoning_learns_from_rows_in_which_its_task_happened_or_is_not_told(world):
    steps = torch.randn(2, 3, WIDTH, generator=torch.Generator().manual_seed(3))
    world.batch.labels = torch.tensor([[1.0, 0], [1, 1], [1, 0]])
    world.batch.label_mask = torch.tensor([[True, True], [True, True], [True, False]])
    states = torch.cat([world.states, steps.flatten(0, 1)])
    target = torch.cat([following(world.sequence), own(world.sequence).repeat(2)])
    objective = NextItem(NextItemConfig(positions="all"), BATCH, WIDTH, ROWS, of_steps=(0, 1))

    def learned(states: Tensor, target: Tensor, steps: int) -> list[float]:
        world.history.to_find = lambda sequence, every: ToFind(states, target, steps)
        candidates = torch.zeros(5, WIDTH)
        loss, told = objective(
            world.history,
            world.sequence,
            lambda: torch.cat([world.table[world.past.rows], world.own]),
            candidates,
            world.batch,
        )
        return [float(loss), *told.tolist()]

    # Row 1 has no past; the second task happened not in row 0, and of row 2 nobody says.
    without = torch.tensor([*range(5), 5, 7, 10])
    assert learned(states, target, 2) == pytest.approx(learned(states[without], target[without], 0))
    assert learned(states, target, 0)[2] == 5 + 2 + 2 == learned(states, target, 2)[2] + 1


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("cells", [1, 40, 1000])
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_cross_entropy_block_by_block_is_that_of_all_scores_at_once(cells: int, kind: torch.dtype, smoothing: float):
    g = torch.Generator().manual_seed(4)
    states = torch.randn(7, 5, generator=g).to(kind).requires_grad_()
    items = torch.randn(11, 5, generator=g).requires_grad_()
    place, weights = torch.randint(0, 11, (7,), generator=g), torch.rand(7, generator=g)
    total = cross_entropy_among_all(states, items, place, weights, smoothing, cells)
    (3 * total).backward()
    got = [states.grad, items.grad]
    states.grad = items.grad = None
    wanted = F.cross_entropy((states @ items.to(kind).T).float(), place, reduction="none", label_smoothing=smoothing)
    (3 * (wanted * weights).sum()).backward()
    close = {"rtol": 1e-5, "atol": 1e-6} if kind == torch.float32 else {"rtol": 0.05, "atol": 0.05}
    torch.testing.assert_close(total, (wanted * weights).sum(), **close)
    for mine, theirs in zip(got, (states.grad, items.grad), strict=True):
        torch.testing.assert_close(mine, theirs, **close)


def test_without_states_there_is_no_loss():
    states, items = torch.zeros(0, 5, requires_grad=True), torch.ones(3, 5, requires_grad=True)
    total = cross_entropy_among_all(states, items, torch.zeros(0).long(), torch.zeros(0), 0.1)
    total.backward()
    assert total == 0
    assert not items.grad.any()


def test_under_autocast_scores_of_the_catalog_are_products_in_bfloat16(world):
    every = torch.arange(1, ROWS)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        _, (told, _) = loss_of(world, every, loss="softmax", positions="all")
    found, scale = torch.tensor(FOUND) - 1, WIDTH**-0.5
    narrow = (world.states * scale).bfloat16() @ world.table[1:].bfloat16().T
    assert told == pytest.approx(F.cross_entropy(narrow.float(), found, reduction="sum").item(), rel=1e-6)
    exact = F.cross_entropy(world.states @ world.table[1:].T * scale, found, reduction="sum").item()
    assert told != pytest.approx(exact, rel=1e-6)
    assert told == pytest.approx(exact, rel=0.01)


def test_no_more_scores_are_held_at_a_time_than_are_asked_for():
    largest = []

    class Watched(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = func(*args, **kwargs or {})
            largest.append(max((of.numel() for of in tree_leaves(out) if isinstance(of, Tensor)), default=0))
            return out

    states, items = torch.randn(60, 4, requires_grad=True), torch.randn(50, 4, requires_grad=True)
    with Watched():
        cross_entropy_among_all(states, items, torch.arange(50).repeat(2)[:60], torch.ones(60), cells=250).backward()
    assert max(largest) == 250  # of 60 x 50
