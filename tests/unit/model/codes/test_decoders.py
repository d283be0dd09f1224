"""Decoders of codes against what they stand for, and codes as an aspect."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foundrank.model.codes import DECODERS
from foundrank.model.codes.code_aspect import CodeAspect, CodeEmbeddings, code_names
from foundrank.model.codes.decoder import Others
from foundrank.model.codes.parallel import summed
from foundrank.model.layers.axes import axes_of

SIZES, WIDTH, ROWS = (5, 2, 7), 8, 11
EQUAL = (4, 4, 4)
IN_ORDER = ("parallel", "autoregressive")
"""Decoders whose losses say the same each time."""


def decoder_of(kind: str, sizes=SIZES) -> nn.Module:
    torch.manual_seed(0)
    decoder = DECODERS[kind]().build(sizes, WIDTH)  # type: ignore[attr-defined]
    for parameter in decoder.parameters():
        nn.init.normal_(parameter, std=0.5)
    return decoder.eval()


def some(sizes=SIZES, rows: int = ROWS) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(1)
    codes = torch.stack([torch.randint(0, size, (rows,), generator=g) for size in sizes], 1)
    return torch.randn(rows, WIDTH, generator=g), codes


def log_probabilities(decoder: nn.Module, kind: str, states: Tensor, codes: Tensor) -> list[Tensor]:
    """Of each level, ``[S, V]``."""
    if kind == "autoregressive":
        return decoder._given(states, codes)  # type: ignore[operator]
    return [of[:, :size] for of, size in zip(decoder(states), decoder.sizes, strict=True)]  # type: ignore[call-overload]


@pytest.mark.parametrize("kind", IN_ORDER)
def test_each_level_is_a_distribution_over_its_own_values(kind):
    decoder, (states, codes) = decoder_of(kind), some()
    found = log_probabilities(decoder, kind, states, codes)
    assert [of.shape for of in found] == [(ROWS, size) for size in SIZES]
    for of in found:
        assert of.dtype == torch.float32
        torch.testing.assert_close(of.exp().sum(1), torch.ones(ROWS))
    assert (found[0].std(1) > 0.01).all()
    if kind == "parallel":
        beyond = decoder(states)[1][:, SIZES[1] :]
        assert torch.isneginf(beyond).all()


@pytest.mark.parametrize("kind", IN_ORDER)
@pytest.mark.parametrize("sizes", [SIZES, EQUAL])
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_losses_are_torch_s_cross_entropies(kind, sizes, smoothing):
    decoder, (states, codes) = decoder_of(kind, sizes), some(sizes)
    found = log_probabilities(decoder, kind, states, codes)
    wanted = [
        F.cross_entropy(of, codes[:, level], label_smoothing=smoothing, reduction="none")
        for level, of in enumerate(found)
    ]
    losses = decoder.losses(states, codes, smoothing)
    assert losses.shape == (ROWS,)
    torch.testing.assert_close(losses, torch.stack(wanted).mean(0))


def test_a_sum_over_levels_is_the_log_probability_of_an_item():
    decoder, (states, _) = decoder_of("parallel"), some()
    _, items = some(rows=30)
    users = decoder.of_user(states)
    assert users.shape == (ROWS, sum(SIZES))
    starts = torch.tensor([0, 5, 7])
    scores = summed(users, (items + starts).T)
    assert scores.shape == (ROWS, 30)
    for item in range(30):
        own = -len(SIZES) * decoder.losses(states, items[item].expand(ROWS, -1), 0.0)
        torch.testing.assert_close(scores[:, item], own, rtol=1e-5, atol=1e-5)


def test_a_score_is_the_log_probability_of_codes_given_those_before():
    decoder, (states, codes) = decoder_of("autoregressive"), some()
    scores = decoder.scores(states, codes)
    torch.testing.assert_close(scores, -len(SIZES) * decoder.losses(states, codes, 0.0))
    assert torch.equal(decoder.of_user(states), states)
    every = torch.cartesian_prod(*(torch.arange(size) for size in SIZES))
    whole = decoder.scores(states[:1].expand(len(every), -1), every)
    torch.testing.assert_close(whole.exp().sum(), torch.tensor(1.0))


def test_no_level_sees_the_codes_behind_it():
    decoder, (states, codes) = decoder_of("autoregressive"), some()
    found = decoder._given(states, codes)
    changed = codes.clone()
    changed[:, 1] = 1 - changed[:, 1]
    other = decoder._given(states, changed)
    torch.testing.assert_close(other[0], found[0])
    torch.testing.assert_close(other[1], found[1])
    assert not torch.allclose(other[2], found[2], atol=1e-3)


@pytest.mark.parametrize("kind", DECODERS)
def test_every_parameter_learns_and_says_what_its_axes_are(kind):
    decoder, (states, codes) = decoder_of(kind), some()
    decoder.losses(states, codes, 0.1).sum().backward()
    for name, parameter in decoder.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name
    assert {name for name, _ in decoder.named_parameters()} <= axes_of(decoder).keys()


@pytest.mark.parametrize("kind", DECODERS)
def test_no_rows_have_no_losses_but_gradients(kind):
    decoder, (states, codes) = decoder_of(kind), some()
    losses = decoder.losses(states[:0], codes[:0], 0.1)
    assert losses.shape == (0,)
    losses.sum().backward()
    assert all(parameter.grad is not None for parameter in decoder.parameters())


@pytest.mark.parametrize("dtype", [torch.int16, torch.float32, torch.int64])
def test_an_aspect_is_the_normalised_sum_of_what_its_codes_stand_for(dtype):
    torch.manual_seed(0)
    aspect, (_, codes) = CodeAspect(SIZES, WIDTH), some()
    weight, starts = aspect.embeddings.weight, (0, 5, 7)
    sums = torch.stack(
        [sum(weight[start + code] for start, code in zip(starts, row, strict=True)) for row in codes.tolist()]
    )  # type: ignore[arg-type]
    torch.testing.assert_close(aspect.embeddings.sums(codes), sums)
    torch.testing.assert_close(aspect(codes.to(dtype)), F.layer_norm(sums, (WIDTH,)))


def test_values_of_levels_have_names():
    assert code_names((2, 3)) == ["0/0", "0/1", "1/0", "1/1", "1/2"]
    assert CodeEmbeddings((2, 3), 4).weight.shape == (5, 4)


@pytest.mark.parametrize("sizes", [SIZES, EQUAL])
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_losses_among_items_are_those_of_the_sums_that_rank_them(sizes, smoothing):
    decoder, (states, codes) = decoder_of("parallel", sizes), some(sizes)
    others = Others(torch.cat([codes[:6], some(sizes, 20)[1][11:]]), torch.rand(15) + 0.1)
    others.weights[2] = 0
    found = decoder.losses_among(states, codes, others, smoothing)  # type: ignore[operator]
    starts = torch.tensor([0, *sizes[:-1]]).cumsum(0)[:, None].int()
    users, root = decoder.of_user(states), len(sizes) ** 0.5  # type: ignore[operator]
    of_others, of_own = (summed(users, of.T.int() + starts) / root for of in (others.codes, codes))
    for row in range(ROWS):
        told = [at for at in range(15) if others.weights[at] > 0 and not torch.equal(others.codes[at], codes[row])]
        own, rest = of_own[row, row], of_others[row, told]
        logits = torch.cat([own[None], rest + others.weights[told].log()])
        weights = others.weights[told]
        wanted = logits.logsumexp(0) - (1 - smoothing) * own - smoothing * (rest * weights).sum() / weights.sum()
        torch.testing.assert_close(found[row], wanted)


def test_an_item_that_is_told_from_none_has_no_loss():
    decoder, (states, codes) = decoder_of("parallel"), some()
    for others in (Others(codes[:0], torch.ones(0)), Others(codes[:1].expand(4, -1), torch.ones(4))):
        losses = decoder.losses_among(states[:1].requires_grad_(), codes[:1], others, 0.3)  # type: ignore[operator]
        torch.testing.assert_close(losses, torch.zeros(1))
        decoder.zero_grad()
        losses.sum().backward()
        assert all(torch.isfinite(of.grad).all() for of in decoder.parameters())
