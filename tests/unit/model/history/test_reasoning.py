"""Steps of reasoning, and what they learn."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foundrank.model.history.reasoning import Reasoning, ReasoningConfig, agreement, contrast
from tests.sequences import CLOSE, WIDTH, make, sequence_of, some


@pytest.mark.parametrize("learning", ["ensemble", "progressive"])
def test_each_step_of_reasoning_looks_at_the_state_before_it_behind_all_items(learning: str):
    items, _ = some()
    encoder = make(f"sasrec+{learning}")
    plain, reasoning = encoder.stack, encoder.reasoning
    for row, at in ((items[0], 0), (items[2], 2)):
        x = row + plain.positions[: len(row)].flip(0)
        steps = [newest_of(plain, x)]
        for step in reasoning.steps:
            x = torch.cat([x, steps[-1] + step])
            steps.append(newest_of(plain, x))
        steps = torch.cat(steps)
        wanted = steps.mean(0) if learning == "ensemble" else steps[-1]
        torch.testing.assert_close(encoder(sequence_of(items))[at], wanted, **CLOSE)
        scales = torch.ones(3) if learning == "ensemble" else torch.tensor([1 / 2.25, 1 / 1.5, 1])
        learned = encoder.to_find(sequence_of(items), every=False)
        assert learned.target.tolist() == [10, -1, 12, 13] * 3
        torch.testing.assert_close(learned.states.view(3, 4, WIDTH)[:, at], steps * scales[:, None], **CLOSE)
    # Each position's state comes first where all are to find something.
    everywhere = encoder.to_find(sequence_of(items), every=True)
    torch.testing.assert_close(everywhere.states[:10], plain(sequence_of(items)), **CLOSE)
    torch.testing.assert_close(everywhere.states[10:], learned.states[4:], **CLOSE)
    assert everywhere.target[10:].tolist() == [10, -1, 12, 13] * 2
    assert not encoder(sequence_of(items))[1].any()  # a row without past items


@pytest.mark.parametrize("learning", ["ensemble", "progressive"])
def test_a_block_of_the_newest_states_is_thought_on_together(learning: str):
    items, _ = some()
    encoder = make(f"sasrec+{learning} of blocks")
    plain, reasoning = encoder.stack, encoder.reasoning
    for row, at in ((items[0], 0), (items[2], 2), (items[3], 3)):  # the last has one item alone
        x = row + plain.positions[: len(row)].flip(0)
        states = plain.through(sequence_of([x]))
        block = torch.cat([torch.zeros(2, WIDTH), states])[-2:]
        steps = [states[-1]]
        for step in reasoning.steps:
            x = torch.cat([x, block + step + torch.stack([reasoning.places[1], reasoning.places[0]])])
            block = plain.through(sequence_of([x]))[-2:]
            steps.append(block[-1])
        wanted = torch.stack(steps).mean(0) if learning == "ensemble" else steps[-1]
        torch.testing.assert_close(encoder(sequence_of(items))[at], wanted, **CLOSE)
    assert not encoder(sequence_of(items))[1].any()


def test_tasks_without_a_step_each_are_refused():
    with pytest.raises(ValueError, match="1 tasks for 2 steps: each step has one"):
        ReasoningConfig(steps=2, tasks=("click",))


def newest_of(stack: nn.Module, x: Tensor) -> Tensor:
    """``[1, D]``: the state of the last of ``x [n, D]``, which goes into the blocks as it is."""
    return stack.through(sequence_of([x]))[-1:]


def test_steps_are_kept_apart_by_the_divergence_of_what_they_recommend():
    g = torch.Generator().manual_seed(2)
    states, candidates = torch.randn(3, 4, WIDTH, generator=g), torch.randn(5, WIDTH, generator=g)
    weights = torch.tensor([1.0, 0.0, 1.0, 1.0])
    wanted = 0.0
    for row in (0, 2, 3):
        p = [torch.softmax(candidates @ states[step, row], 0) for step in range(3)]
        wanted -= sum((p[a] * (p[a] / p[b]).log()).sum() for a, b in ((0, 1), (0, 2), (1, 2))) / 3
    torch.testing.assert_close(agreement(states, candidates, weights), wanted)
    assert agreement(states[:1].repeat(2, 1, 1), candidates, weights).abs() < 1e-6


def test_a_noised_state_is_to_find_its_own_among_those_of_rows_that_count():
    g = torch.Generator().manual_seed(2)
    states, noised = torch.randn(4, WIDTH, generator=g), torch.randn(4, WIDTH, generator=g)
    kept = [0, 2, 3]
    scores = F.normalize(noised[kept], dim=1) @ F.normalize(states[kept], dim=1).T / 0.1
    wanted = F.cross_entropy(scores, torch.arange(3), reduction="sum")
    torch.testing.assert_close(contrast(states, noised, torch.tensor([1.0, 0.0, 1.0, 1.0])), wanted)


def test_the_progressive_kind_contrasts_all_rows_and_the_ensemble_kind_within_what_they_seek_among():
    g = torch.Generator().manual_seed(2)
    states, noised = torch.randn(2, 3, 4, WIDTH, generator=g)
    candidates, weights = torch.randn(5, WIDTH, generator=g), torch.tensor([1.0, 0.0, 1.0, 1.0])
    pools = [(candidates[:3], torch.tensor([1.0, 0, 0, 0])), (candidates[3:], torch.tensor([0.0, 0, 1, 0]))]
    progressive, ensemble = (
        Reasoning(WIDTH, ReasoningConfig(learning=kind)).beside(states, noised, pools, weights)
        for kind in ("progressive", "ensemble")
    )
    torch.testing.assert_close(progressive, 0.1 * contrast(states[-1], noised[-1], weights))
    torch.testing.assert_close(ensemble, 0.05 * sum(agreement(states, *pool) for pool in pools))
    assert Reasoning(WIDTH, ReasoningConfig()).beside(states, noised, [], weights) == 0
