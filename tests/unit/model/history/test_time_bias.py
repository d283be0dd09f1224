"""How long ago items were."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from foundrank.model.history.sequence import Sequence
from foundrank.model.history.time_bias import BUCKETS, TimeBias, bucket
from tests.sequences import ENCODERS, HEADS, WIDTH, make, sequence_of, some


@pytest.mark.parametrize("name", [n for n in ENCODERS if n.endswith("+times")])
def test_when_an_item_was_matters_only_as_far_as_it_may_be_known(name: str):
    items, at_hand = some()
    encoder = make(name)

    def seen(ages: Tensor) -> Tensor:
        sequence = replace(sequence_of(items), ages=ages)
        return encoder(sequence, at_hand) if name.startswith("din") else encoder.to_find(sequence, every=False).states

    ages = sequence_of(items).ages
    for at, row in ((1, 0), (5, 2)):  # the second of row 0, the third of row 2
        older = ages.clone()
        older[at] += 10_000
        moved = (seen(older) - seen(ages)).abs().amax(1) > 1e-5
        assert moved.tolist() == [r == row for r in range(4)]
    if name in ("sasrec+times", "hstu+times"):  # a state knows when the next item came, and nothing of what came later
        older = ages.clone()
        older[3:9] = torch.tensor([900, 800, 700, 60, 50, 40]) * 1000
        first = encoder.to_find(replace(sequence_of(items), ages=older), True).states
        later = older.clone()
        later[7:9] = torch.tensor([30, 20]) * 1000
        then = encoder.to_find(replace(sequence_of(items), ages=later), True).states
        unchanged = (first - then).abs().amax(1) < 1e-6
        assert unchanged.tolist() == [True] * 6 + [False] * 3 + [True]


def test_hstu_adds_the_bias_of_the_interval_to_what_comes_next():
    bias = TimeBias(HEADS, causal=True)
    ages = torch.tensor([700, 60, 5])
    group = Sequence(
        torch.zeros(3, WIDTH), torch.tensor([3]), torch.zeros(3).long(), torch.tensor([2, 1, 0]), 3, ages
    ).one_group
    got = bias(group, ages)
    asked = [60, 5, 0]  # the time of what comes next, at last that of the event
    for i in range(3):
        for j in range(i + 1):
            seconds = ages[j].item() - asked[i]
            torch.testing.assert_close(got[0, :, i, j], bias.biases[int(2 * math.log2(1 + seconds))])


def test_intervals_double_in_two_buckets_and_none_is_beyond_the_last():
    found = bucket(torch.tensor([-5, 0, 1, 3, 7, 15, 10**12]))
    assert found.tolist() == [0, 0, 2, 4, 6, 8, BUCKETS - 1]
