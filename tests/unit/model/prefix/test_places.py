"""Places of a prefix in a sequence: what sees them, what they find, and that a row without any is as it was."""

import pytest
import torch
import torch.nn.functional as F

from foundrank.model.history import HISTORIES, sequence
from tests.sequences import CLOSE, HEADS, LENGTHS, PAST, WIDTH, sequence_of, some

THERE = torch.tensor([[True, True], [False, True], [False, False], [True, False]])
NONE = torch.zeros_like(THERE)
NAMES = ["sasrec", "hstu", "sasrec+times", "hstu+times", "sasrec+reasoning"]


def encoder_of(name: str) -> torch.nn.Module:
    torch.manual_seed(1)
    kind, _, option = name.partition("+")
    history = {"heads": HEADS, "dropout": 0.0, "prefix": ["user", "taste"], "time_bias": option == "times"}
    history |= {"reasoning": {"steps": 2}} if option == "reasoning" else {}
    module = HISTORIES[kind].model_validate(history).build(WIDTH, PAST, 0.5)  # type: ignore[attr-defined]
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return module.eval()


def places(seed: int = 5) -> torch.Tensor:
    return torch.randn(len(LENGTHS), 2, WIDTH, generator=torch.Generator().manual_seed(seed))


def test_places_come_before_each_rows_oldest_item_and_move_no_position():
    items, _ = some()
    given = places()
    prefixed, plain = sequence_of(items).with_prefix(given, THERE), sequence_of(items)
    expected = sequence_of([torch.cat([given[r][THERE[r]], row]) for r, row in enumerate(items)])
    for name in ("items", "lengths", "row", "back"):
        assert torch.equal(getattr(prefixed, name), getattr(expected, name)), name
    assert prefixed.longest == expected.longest
    assert prefixed.past_items == len(plain.items)
    assert prefixed.in_prefix is not None
    past = ~prefixed.in_prefix
    for name in ("items", "row", "back", "ages"):
        assert torch.equal(getattr(prefixed, name)[past], getattr(plain, name)), name
    assert not prefixed.ages[~past].any()


def test_attention_with_a_prefix_is_that_of_a_slow_dense_reference():
    items, _ = some()
    encoder, given = encoder_of("sasrec"), places()
    stack = encoder.stack
    states = encoder(sequence_of(items).with_prefix(given, THERE))
    for r, row in enumerate(items):
        mine = given[r][THERE[r]]
        x = torch.cat([mine, row + stack.positions[: len(row)].flip(0)])
        if not len(x):
            assert not states[r].any()
            continue
        for block in stack.blocks:
            queries, keys, values = block.inputs(block.norm(x)).view(len(x), 3, HEADS, -1).permute(1, 2, 0, 3)
            scores = (queries @ keys.mT) * (WIDTH // HEADS) ** -0.5
            seen = torch.ones(len(x), len(x)).tril().bool()
            attended = scores.masked_fill(~seen, float("-inf")).softmax(-1) @ values
            x = x + block.outputs(attended.transpose(0, 1).reshape(len(x), WIDTH))
            x = x + block.narrow(F.gelu(block.wide(block.forward_norm(x))))
        torch.testing.assert_close(states[r], stack.norm(x)[-1], **CLOSE)


@pytest.mark.parametrize("name", NAMES)
def test_a_row_without_places_is_what_it_is_without_a_prefix(name: str):
    items, _ = some()
    encoder = encoder_of(name)
    plain = encoder.to_find(sequence_of(items), every=True)
    none = encoder.to_find(sequence_of(items).with_prefix(places(), NONE), every=True)
    assert torch.equal(plain.states, none.states)
    assert torch.equal(plain.target, none.target)
    among = encoder(sequence_of(items).with_prefix(places(), THERE))
    torch.testing.assert_close(among[2], encoder(sequence_of(items))[2], **CLOSE)


@pytest.mark.parametrize("name", NAMES)
def test_the_form_for_gpus_says_the_same(name: str, monkeypatch):
    items, _ = some()
    encoder, given = encoder_of(name), places()
    plain = encoder.to_find(sequence_of(items).with_prefix(given, THERE), every=True)
    monkeypatch.setattr(sequence, "fast_on_cpu", lambda x: False)  # how long rows are is not looked at
    longer = sequence_of(items).with_prefix(given, THERE)
    assert longer.longest == max(LENGTHS) + 2
    other = encoder.to_find(longer, every=True)
    torch.testing.assert_close(other.states, plain.states, **CLOSE)
    assert torch.equal(other.target, plain.target)


@pytest.mark.parametrize("name", NAMES)
def test_every_past_item_sees_the_places_of_its_row_alone(name: str):
    items, _ = some()
    encoder, given, other = encoder_of(name), places(), places()
    other[0, 1] *= -1
    seen, changed = (
        encoder.to_find(sequence_of(items).with_prefix(of, THERE), every=True).states for of in (given, other)
    )
    moved = ((seen - changed).abs().amax(1) > 1e-5).tolist()
    # Rows of 2 + 3, 1 + 0, 0 + 6 and 1 + 1 places; behind them what each step of reasoning says of a row.
    first = [False, True, True, True, True] + [False] * 9
    steps = [True, False, False, False] * 2 if name.endswith("reasoning") else []
    assert moved == first + steps


@pytest.mark.parametrize("name", ["sasrec", "hstu"])
def test_a_place_finds_the_rows_own_item_where_nothing_is_past_and_else_nothing(name: str):
    items, _ = some()
    encoder = encoder_of(name)
    prefixed = sequence_of(items).with_prefix(places(), THERE)
    found = encoder.to_find(prefixed, every=True)
    total = sum(LENGTHS)
    own = [total, total + 1, total + 2, total + 3]
    assert found.target.tolist() == [-1, -1, 1, 2, own[0], own[1], 4, 5, 6, 7, 8, own[2], -1, own[3]]
    alone = encoder.to_find(prefixed, every=False)
    assert alone.target.tolist() == own
    assert alone.states[1].any()  # a new user, of whom the prefix alone is known


def test_an_absent_place_and_an_earlier_one_are_told_apart_by_what_they_are():
    items, _ = some()
    encoder, given = encoder_of("sasrec"), places()
    only = torch.tensor([[True, False]]).expand(4, 2)
    other = torch.tensor([[False, True]]).expand(4, 2)
    one, two = (encoder(sequence_of(items).with_prefix(given, there)) for there in (only, other))
    assert (one - two).abs().amax(1).min() > 1e-4
