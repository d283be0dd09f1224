"""Small sequences and encoders of them."""

import torch
from torch import Tensor, nn

from foundrank.model.history import HISTORIES
from foundrank.model.history.sequence import Sequence

WIDTH, PAST, HEADS = 8, 6, 2
LENGTHS = [3, 0, 6, 1]
ENCODERS = ["din", "sasrec", "bert4rec", "hstu", "din+times", "sasrec+times", "bert4rec+times", "hstu+times"]
ENCODERS += ["sasrec+ensemble", "hstu+progressive", "sasrec+progressive of blocks", "hstu+ensemble of blocks"]
CLOSE = {"rtol": 1e-5, "atol": 1e-6}


def make(name: str, past: int = PAST) -> nn.Module:
    torch.manual_seed(1)
    encoder, _, option = name.partition("+")
    history = {"time_bias": option == "times"}
    if encoder != "din":
        history |= {"heads": HEADS, "dropout": 0.0}
    learning, of, _ = option.partition(" of ")
    if learning in ("ensemble", "progressive"):
        history["reasoning"] = {"steps": 2, "learning": learning, "block": 2 if of else 1}
    module = HISTORIES[encoder].model_validate(history).build(WIDTH, past, 0.5)  # type: ignore[attr-defined]
    for parameter in module.parameters():  # biases too: what starts at zero would hide a mistake
        nn.init.normal_(parameter, std=0.5)
    return module.eval()


def sequence_of(items: list[Tensor], longest: int | None = None) -> Sequence:
    """Rows of ``[n, D]`` items each."""
    lengths = torch.tensor([len(row) for row in items])
    back = torch.cat([torch.arange(len(row)).flip(0) for row in items])
    row = torch.repeat_interleave(torch.arange(len(items)), lengths)
    ages = 100 * 3**back + len(items[0])  # newer ones are closer together
    return Sequence(torch.cat(items), lengths, row, back, longest or max(1, int(lengths.max())), ages)


def found(encoder: nn.Module, items: list[Tensor], every: bool) -> tuple[Tensor, Tensor]:
    """States, and what they are to find."""
    to_find = encoder.to_find(sequence_of(items), every)
    return to_find.states, to_find.target


def some(lengths: list[int] = LENGTHS, seed: int = 0) -> tuple[list[Tensor], Tensor]:
    """Past items per row, and the rows' items at hand."""
    g = torch.Generator().manual_seed(seed)
    return [torch.randn(n, WIDTH, generator=g) for n in lengths], torch.randn(len(lengths), WIDTH, generator=g)
