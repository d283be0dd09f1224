"""The layers' plain form: what they compute, in torch's own operators. The reference that faster forms are tested against."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .dropout import Dropout


def grouped_linear(x: Tensor, weight: Tensor, bias: Tensor, domain_lengths: list[int]) -> Tensor:
    """``x [B, I]``, ``weight [domains, O, I]``, ``bias [domains, O]`` -> ``[B, O]``."""
    parts = zip(x.split(domain_lengths), weight.unbind(), bias.unbind(), strict=True)
    return torch.cat([F.linear(rows, w, b) for rows, w, b in parts])


def relu_networks(
    inputs: Sequence[Tensor],
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    domain_lengths: list[int],
    dropout: Dropout,
) -> list[Tensor]:
    """Inputs ``[B, I]``, one or E, weights ``[domains, E, O, I]`` and biases ``[domains, E, O]`` of each layer -> E times ``[B, H]``."""
    outputs = []
    for number in range(weights[0].shape[1]):
        x = inputs[number % len(inputs)]
        for weight, bias in zip(weights, biases, strict=True):
            x = dropout(F.relu(grouped_linear(x, weight[:, number], bias[:, number], domain_lengths)))
        outputs.append(x)
    return outputs


def mixtures(gates: Tensor, experts: Sequence[Tensor]) -> list[Tensor]:
    """Gates ``[T, E, B]``, E experts' ``[B, H]`` -> T times ``[B, H]``; one product, so GPUs need no other form."""
    return list(torch.bmm(gates.permute(2, 0, 1), torch.stack(list(experts), 1)).unbind(1))
