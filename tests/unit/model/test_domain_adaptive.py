import pytest
import torch

from foundrank.model.domain_adaptive import DomainAdaptiveLayer, grouped_linear, grouped_task_linear

LENGTHS = [[3, 2, 4], [0, 5, 0], [0, 0, 0], [1, 0, 6]]


@pytest.mark.parametrize("lengths", LENGTHS)
def test_grouped_linear_is_a_loop_over_rows(lengths):
    x, weight, bias = torch.randn(sum(lengths), 4), torch.randn(3, 5, 4), torch.randn(3, 5)
    out = grouped_linear(x, weight, bias, lengths)
    domains = torch.arange(3).repeat_interleave(torch.tensor(lengths))
    rows = [weight[d] @ row + bias[d] for row, d in zip(x, domains, strict=True)]
    torch.testing.assert_close(out, torch.stack(rows) if rows else torch.zeros(0, 5))


@pytest.mark.parametrize("lengths", LENGTHS)
def test_grouped_task_linear_is_a_loop_over_rows_and_tasks(lengths):
    x, weight, bias = torch.randn(2, sum(lengths), 4), torch.randn(3, 2, 5, 4), torch.randn(3, 2, 5)
    out = grouped_task_linear(x, weight, bias, lengths)
    domains = torch.arange(3).repeat_interleave(torch.tensor(lengths))
    rows = [
        torch.stack([weight[d, t] @ row[t] + bias[d, t] for t in range(2)])
        for row, d in zip(x.transpose(0, 1), domains, strict=True)
    ]
    torch.testing.assert_close(out, torch.stack(rows, 1) if rows else torch.zeros(2, 0, 5))


def test_lengths_that_do_not_match_are_refused():
    weight, bias = torch.randn(3, 5, 4), torch.randn(3, 5)
    with pytest.raises(ValueError, match=r"argument 2 is (longer|shorter)"):
        grouped_linear(torch.randn(4, 4), weight, bias, [2, 2])
    with pytest.raises(RuntimeError):
        grouped_linear(torch.randn(4, 4), weight, bias, [2, 1, 0])


def test_domains_start_alike_up_to_their_embedding():
    layer = DomainAdaptiveLayer(domains=3, size=4, width=6, embedding_width=5)
    x, embedding = torch.randn(1, 4).expand(3, 4), torch.randn(3, 5)
    z = layer(x, torch.zeros(3, 5), [1, 1, 1])
    torch.testing.assert_close(z[0], z[2])
    shifted = layer(x, embedding, [1, 1, 1])
    torch.testing.assert_close(shifted - z, layer.embedding_projection(embedding))


def test_every_row_trains_the_shared_map_and_its_own_domain_only():
    layer = DomainAdaptiveLayer(domains=3, size=4, width=6, embedding_width=5)
    layer(torch.randn(5, 4), torch.randn(3, 5), [2, 0, 3]).square().sum().backward()
    assert layer.own.grad is not None
    assert [bool(g.ne(0).any()) for g in layer.own.grad] == [True, False, True]
    torch.testing.assert_close(layer.shared.grad, layer.own.grad.sum(0))
