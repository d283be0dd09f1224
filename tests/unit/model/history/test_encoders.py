"""The encoders of sequences: what each item may see, and that neither padding nor other rows matter."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from foundrank.model.history.hstu import hstu_attention
from foundrank.model.history.sequence import Sequence
from foundrank.model.history.transformer import Block
from tests.sequences import CLOSE, ENCODERS, HEADS, LENGTHS, PAST, WIDTH, found, make, sequence_of, some


def test_padding_and_packing_are_each_others_inverse():
    items, _ = some()
    sequence = sequence_of(items)
    group = sequence.one_group
    padded = group.padded(sequence.items)
    for row, mine in zip(items, padded, strict=True):
        torch.testing.assert_close(mine[: len(row)], row)
        assert not mine[len(row) :].any()
    assert torch.equal(group.packed(padded), sequence.items)
    assert torch.equal(sequence.newest(sequence.items)[[0, 2, 3]], torch.stack([items[r][-1] for r in (0, 2, 3)]))
    assert not sequence.newest(sequence.items)[1].any()
    assert not sequence.mean(sequence.items)[1].any()
    torch.testing.assert_close(sequence.mean(sequence.items)[2], items[2].mean(0))


@pytest.mark.parametrize("name", ["sasrec", "bert4rec+times", "hstu", "hstu+times"])
def test_rows_padded_in_groups_are_what_they_are_padded_together(name: str):
    """The fast path against the plain one: values and gradients."""
    encoder = make(name, past=50)
    lengths = torch.randint(0, 51, (40,), generator=torch.Generator().manual_seed(1)).tolist()
    found = {}
    for way in ("groups", "together"):
        items = [row.requires_grad_() for row in some(lengths)[0]]
        sequence = sequence_of(items)
        if name.startswith("bert4rec"):  # its mask is one more item
            sequence = sequence.with_one_more(torch.ones(WIDTH))
        if way == "together":
            sequence.groups = [sequence.one_group]
        else:
            assert 3 < len(sequence.groups) == len({group.longest for group in sequence.groups})
            work = sum(len(group.lengths) * group.longest**2 for group in sequence.groups)
            assert work < 0.6 * sequence.rows * sequence.longest**2
        states = encoder.stack(sequence)
        encoder.zero_grad()
        (states * torch.arange(len(states))[:, None].cos()).sum().backward()
        found[way] = [states, *(row.grad for row in items), *(p.grad for _, p in encoder.stack.named_parameters())]
    for grouped, together in zip(found["groups"], found["together"], strict=True):
        torch.testing.assert_close(grouped, together, rtol=1e-4, atol=1e-4)


def test_one_more_comes_behind_each_row():
    items, _ = some()
    last = torch.arange(WIDTH).float()
    longer = sequence_of(items).with_one_more(last)
    expected = sequence_of([torch.cat([row, last[None]]) for row in items])
    for name in ("items", "lengths", "row", "back"):
        assert torch.equal(getattr(longer, name), getattr(expected, name)), name
    assert longer.longest == expected.longest


@pytest.mark.parametrize("name", ENCODERS)
def test_a_row_is_what_it_is_alone_however_long_others_are(name: str):
    items, at_hand = some()
    encoder = make(name)
    together = encoder(sequence_of(items), at_hand)
    assert together.shape == (len(LENGTHS), WIDTH)
    for r, row in enumerate(items):
        torch.testing.assert_close(encoder(sequence_of([row]), at_hand[r : r + 1])[0], together[r], **CLOSE)
        torch.testing.assert_close(encoder(sequence_of([row], PAST), at_hand[r : r + 1])[0], together[r], **CLOSE)


@pytest.mark.parametrize("name", ENCODERS)
def test_every_past_item_matters_and_so_does_their_order(name: str):
    (row,), at_hand = some([4])
    encoder = make(name)
    seen = encoder(sequence_of([row]), at_hand)
    for place in range(4):
        changed = row.clone()
        changed[place] *= -1
        assert (encoder(sequence_of([changed]), at_hand) - seen).abs().max() > 1e-4
    turned = encoder(sequence_of([row.flip(0)]), at_hand)
    assert torch.allclose(turned, seen, atol=1e-5) == (name == "din")  # which looks at items, not at when they were


@pytest.mark.parametrize("name", ["sasrec", "hstu", "sasrec+times", "hstu+times"])
def test_no_state_sees_an_item_that_came_later(name: str):
    items, _ = some()
    encoder = make(name)
    states, target = found(encoder, items, every=True)
    total = sum(LENGTHS)
    # Rows of 3, 0, 6 and 1 items, and their own behind all.
    assert target.tolist() == [1, 2, total, 4, 5, 6, 7, 8, total + 2, total + 3]
    for place in range(6):
        changed = [row.clone() for row in items]
        changed[2][place] *= -1
        others, _ = found(encoder, changed, every=True)
        at = 3 + place
        assert torch.equal(others[:at], states[:at])
        assert torch.equal(others[9:], states[9:])
        assert (others[at:9] - states[at:9]).abs().amax(1).min() > 1e-5


@pytest.mark.parametrize("name", ["sasrec", "hstu", "bert4rec", "bert4rec+times"])
def test_with_one_state_per_row_that_is_to_find_the_rows_own_item(name: str):
    items, at_hand = some()
    encoder = make(name)
    states, target = found(encoder, items, every=False)
    torch.testing.assert_close(states, encoder(sequence_of(items), at_hand), **CLOSE)
    alone = 11 if name.startswith("bert4rec") else -1  # a mask alone is a state, nothing at all is none
    assert target.tolist() == [10, alone, 12, 13]


def test_a_masked_item_is_not_seen_and_all_others_are():
    items, _ = some()
    encoder = make("bert4rec")
    torch.manual_seed(5)
    states, target = found(encoder, items, every=True)
    masked = (target[:10] >= 0).nonzero().flatten().tolist()
    assert 0 < len(masked) < 10
    assert target[10:].tolist() == [10, 11, 12, 13]
    assert [target[at].item() for at in masked] == masked
    rows = torch.repeat_interleave(torch.arange(4), torch.tensor(LENGTHS))
    for at in range(10):
        changed = torch.cat(items)
        changed[at] *= -1
        torch.manual_seed(5)
        others, _ = found(encoder, list(changed.split(LENGTHS)), every=True)
        moved = (others - states).abs().amax(1) > 1e-6
        of_row = torch.cat([rows, torch.arange(4)]) == rows[at]
        # What is masked tells nothing; what is shown tells all states of its row, before it and behind it.
        assert torch.equal(moved, of_row & torch.tensor(at not in masked))


def test_a_block_is_softmax_attention_as_the_paper_writes_it():
    torch.manual_seed(2)
    for causal in (True, False):
        block = Block(WIDTH, HEADS, 0.0, causal)
        items, _ = some()
        sequence = sequence_of(items)
        got = block(sequence, sequence.items).split(LENGTHS)
        for row, mine in zip(items, got, strict=True):
            q, k, v = block.inputs(block.norm(row)).chunk(3, 1)
            heads = []
            for h in range(HEADS):
                part = slice(h * WIDTH // HEADS, (h + 1) * WIDTH // HEADS)
                scores = q[:, part] @ k[:, part].T / math.sqrt(WIDTH / HEADS)
                if causal:
                    scores = scores.masked_fill(torch.ones_like(scores).triu(1) > 0, -torch.inf)
                heads.append(scores.softmax(1) @ v[:, part])
            x = row + block.outputs(torch.cat(heads, 1))
            x = x + block.narrow(F.gelu(block.wide(block.forward_norm(x))))
            torch.testing.assert_close(mine, x, **CLOSE)


def test_hstu_attention_is_the_sum_the_paper_writes():
    g = torch.Generator().manual_seed(3)
    q, k, v = (torch.randn(2, HEADS, 4, 3, generator=g) for _ in range(3))
    distances = torch.randn(PAST, generator=g)
    got = hstu_attention(q, k, v, distances, PAST)
    for b in range(2):
        for h in range(HEADS):
            for i in range(4):
                expected = sum(
                    F.silu(q[b, h, i] @ k[b, h, j] + distances[i - j]) / PAST * v[b, h, j] for j in range(i + 1)
                )
                torch.testing.assert_close(got[b, h, i], expected, **CLOSE)


def test_din_is_a_sum_over_items_of_weight_times_item():
    items, at_hand = some()
    encoder = make("din")
    got = encoder(sequence_of(items), at_hand)
    for row, hand, mine in zip(items, at_hand, got, strict=True):
        expected = torch.zeros(WIDTH)
        for item in row:
            expected = (
                expected
                + encoder.weigh(encoder.look(torch.cat([item, hand, item - hand, item * hand])))
                * item
                / len(row) ** 0.5
            )
        torch.testing.assert_close(mine, expected, **CLOSE)


def test_din_with_decoupled_ids_weighs_by_one_table_and_sums_the_other():
    items, at_hand = some()
    looked_at, hand = some(seed=3)
    encoder = make("din")
    sequence = replace(sequence_of(items), attention=(torch.cat(looked_at), hand))
    got = encoder(sequence, at_hand)
    of_attention = encoder(replace(sequence_of(looked_at), attention=None), hand)
    for r, (row, seen) in enumerate(zip(items, looked_at, strict=True)):
        pairs = torch.cat([seen, hand[r].expand_as(seen), seen - hand[r], seen * hand[r]], 1)
        weights = encoder.weigh(encoder.look(pairs))
        torch.testing.assert_close(got[r], (weights * row).sum(0) / max(len(row), 1) ** 0.5, **CLOSE)
        torch.testing.assert_close(of_attention[r], (weights * seen).sum(0) / max(len(row), 1) ** 0.5, **CLOSE)


@pytest.mark.parametrize("lengths", [LENGTHS, [0, 0], []])
@pytest.mark.parametrize("name", ENCODERS)
def test_every_parameter_has_a_gradient_even_without_items(name: str, lengths: list[int]):
    items, at_hand = some(lengths)
    empty = Sequence(torch.zeros(0, WIDTH), *(torch.zeros(0).long(),) * 3, 1, torch.zeros(0).long())
    sequence = sequence_of(items) if lengths else empty
    encoder = make(name).train()
    result = encoder(sequence, at_hand) if name.startswith("din") else encoder.to_find(sequence, every=True).states
    result.sum().backward()
    for parameter, value in encoder.named_parameters():
        assert value.grad is not None, parameter
        assert torch.isfinite(value.grad).all(), parameter
