import torch

from foundrank.model.layers.domain_rows import DomainRows, domain_rows, domain_sums, to_rows


def test_what_the_device_knows_of_the_rows():
    rows = DomainRows([2, 0, 3], torch.tensor([0, 0, 2, 2, 2]))
    assert rows == [2, 0, 3]
    assert domain_rows(rows, torch.device("cpu")) is rows
    assert torch.equal(domain_rows([2, 0, 3], torch.device("cpu")).of_row, rows.of_row)
    assert rows.members.sum(0).tolist() == rows.counts.flatten().tolist() == [2, 0, 3]
    assert rows.ends.tolist() == [2, 2, 5]
    x = torch.randn(5, 3)
    assert torch.equal(x.flatten()[rows.places], torch.stack([x[0, 0], x[1, 0], x[2, 2], x[3, 2], x[4, 2]]))


def test_rows_get_what_their_domain_has_to_the_bit():
    values = torch.randn(3, 4, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rows = to_rows(values, [2, 0, 3])
    assert torch.equal(rows, values[[0, 0, 2, 2, 2]])
    (gradient,) = torch.autograd.grad((rows * torch.arange(5.0)[:, None]).sum(), values)
    assert torch.equal(gradient, torch.tensor([1.0, 0, 9])[:, None].expand(3, 4))
    several = torch.randn(3, 2, 4)
    assert torch.equal(to_rows(several, [2, 0, 3]), several[[0, 0, 2, 2, 2]])
    assert torch.equal(domain_sums(torch.ones(5, 2), [2, 0, 3]), torch.tensor([[2.0], [0], [3]]).expand(3, 2))
