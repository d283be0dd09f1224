"""Experts against a loop over places."""

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError

from foundrank.data.errors import UserError
from foundrank.model.codes.autoregressive import Autoregressive
from foundrank.model.codes.experts import Experts
from tests.coded_world import opened, write_world

WIDTH, EXPERTS = 8, 4


def experts(used: int = 2) -> Experts:
    torch.manual_seed(0)
    return Experts(WIDTH, EXPERTS, used, 0.0)


@pytest.mark.parametrize("used", [1, 2, 4])
def test_each_place_goes_through_the_likeliest(used):
    module, x = experts(used), torch.randn(3, 5, WIDTH)
    found = module(x)
    for place, of_place in zip(x.flatten(0, 1), found.flatten(0, 1), strict=True):
        share = (module.router.weight @ place).softmax(0)
        chosen = share.argsort(descending=True)[:used]
        parts = []
        for expert in chosen:
            inner = F.gelu(place @ module.wide[expert] + module.wide_bias[expert])
            parts.append(share[expert] * (inner @ module.narrow[expert] + module.narrow_bias[expert]))
        torch.testing.assert_close(of_place, sum(parts) / share[chosen].sum())


def test_a_place_does_not_depend_on_the_others():
    module, x = experts().eval(), torch.randn(6, 1, WIDTH)
    together = module(x)
    for row in range(6):
        torch.testing.assert_close(module(x[row : row + 1])[0], together[row])


def test_imbalance_is_least_where_all_are_used_alike():
    module = experts(1).train()
    with torch.no_grad():
        module.router.weight.copy_(10 * torch.eye(EXPERTS, WIDTH))
    module(torch.eye(EXPERTS, WIDTH)[:, None])
    assert module.imbalance.item() == pytest.approx(0.01, rel=1e-3)
    module(torch.eye(EXPERTS, WIDTH)[:1].expand(EXPERTS, -1)[:, None])
    assert module.imbalance.item() == pytest.approx(0.01 * EXPERTS, rel=1e-2)
    module.eval()(torch.eye(EXPERTS, WIDTH)[:, None])
    assert module.imbalance == 0


@pytest.mark.parametrize("rows", [0, 1, 9])
def test_every_parameter_has_a_gradient_and_steps_follow_what_is_given(rows):
    decoder = Autoregressive(experts=EXPERTS, dropout=0, layers=2).build((3, 4), WIDTH)
    states, codes = torch.randn(rows, WIDTH), torch.randint(0, 3, (rows, 2))
    decoder.losses(states, codes, 0.1).sum().backward()
    assert all(torch.isfinite(of.grad).all() for of in decoder.parameters())
    assert not any(block.experts.imbalance.requires_grad for block in decoder.blocks)
    with torch.no_grad():
        first, cache = decoder.eval().begin(states)
        second, _ = decoder.follow(1, codes[:, 0], cache)
        total = first.gather(1, codes[:, :1]) + second.gather(1, codes[:, 1:])
        torch.testing.assert_close(total[:, 0], decoder.scores(states, codes))


def test_more_experts_cannot_be_used_than_there_are():
    with pytest.raises(ValidationError, match="experts_used 3 is more than experts 2"):
        Autoregressive(experts=2, experts_used=3)


def test_how_many_are_used_has_no_effect_on_one(tmp_path):
    decoder = "model.next_item={target: codes, decoder: {kind: autoregressive, heads: 1, experts: %s, experts_used: 1}}"
    path = write_world(tmp_path)
    assert opened(path, decoder % 2).model.next_item.decoder.experts_used == 1
    with pytest.raises(
        UserError, match=r"model\.next_item\.decoder\.experts_used: has no effect without experts: 2 or more"
    ):
        opened(path, decoder % 1)
