import torch

from foundrank.model.layers.domain_rows import domain_members, domain_sums, of_own_domain, to_rows


def test_what_belongs_to_a_row_s_domain():
    x = torch.randn(5, 3, 2)
    found = of_own_domain(x, [2, 0, 3])
    assert torch.equal(found, torch.cat([x[:2, 0], x[2:, 2]]))
    assert domain_members([2, 0, 3], x.device).int().sum(0).tolist() == [2, 0, 3]


def test_rows_get_what_their_domain_has_to_the_bit():
    values = torch.randn(3, 4, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rows = to_rows(values, [2, 0, 3])
    assert torch.equal(rows, values[[0, 0, 2, 2, 2]])
    (gradient,) = torch.autograd.grad((rows * torch.arange(5.0)[:, None]).sum(), values)
    assert torch.equal(gradient, torch.tensor([1.0, 0, 9])[:, None].expand(3, 4))
    assert torch.equal(domain_sums(torch.ones(5, 2), [2, 0, 3]), torch.tensor([[2.0], [0], [3]]).expand(3, 2))
