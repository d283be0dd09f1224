import torch

from foundrank.model.layers.axes import Axis
from foundrank.model.layers.domain_adaptive import DomainAdaptiveLayer


def test_domains_start_alike_up_to_their_embedding():
    layer = DomainAdaptiveLayer(Axis("domain", 3), Axis("in", 4), width=6, embedding_width=5)
    x, embedding = torch.randn(1, 4).expand(3, 4), torch.randn(3, 5)
    z = layer(x, torch.zeros(3, 5), [1, 1, 1])
    torch.testing.assert_close(z[0], z[2])
    shifted = layer(x, embedding, [1, 1, 1])
    torch.testing.assert_close(shifted - z, layer.embedding_projection(embedding))


def test_every_row_trains_the_shared_map_and_its_own_domain_only():
    layer = DomainAdaptiveLayer(Axis("domain", 3), Axis("in", 4), width=6, embedding_width=5)
    layer(torch.randn(5, 4), torch.randn(3, 5), [2, 0, 3]).square().sum().backward()
    assert layer.own.grad is not None
    assert [bool(g.ne(0).any()) for g in layer.own.grad] == [True, False, True]
    torch.testing.assert_close(layer.shared.grad, layer.own.grad.sum(0))
