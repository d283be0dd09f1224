"""What a checkpoint holds, as it is or as it was: what torch.distributed.checkpoint asks for each tensor that it writes."""

from typing import Any

import torch
from torch.distributed.checkpoint.default_planner import DefaultSavePlanner
from torch.distributed.checkpoint.planner import WriteItem


class Planner(DefaultSavePlanner):
    """Saves tensors as they are when they are written; or, after `copy`, as they were then."""

    def __init__(self, tensors: dict[str, Any], is_main: bool):
        super().__init__()
        self.set_up_planner(tensors, is_coordinator=is_main)
        resolve = super().resolve_data
        self._held = {item.index: _alone(resolve(item)) for item in self.create_local_plan().items}

    def bytes(self) -> int:
        """What a copy takes of the host's memory."""
        return sum(each.nbytes for each in self._held.values() if isinstance(each, torch.Tensor))

    def copy(self) -> None:
        """From here on what is saved is what there is now."""
        self._held = copied(self._held)

    def resolve_data(self, write_item: WriteItem) -> Any:
        return self._held[write_item.index]


def _alone(value: Any) -> Any:
    """A tensor on the host as the whole of its memory: of one that is a part, as of a table, torch.distributed.checkpoint makes a copy."""
    if isinstance(value, torch.Tensor) and value.device.type == "cpu" and value.is_contiguous():
        return torch.from_numpy(value.detach().numpy())
    return value


def copied(value: Any) -> Any:
    """Tensors on the host, in memory of their own, in whatever dicts and lists they are."""
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: copied(one) for key, one in value.items()}
    return [copied(one) for one in value] if isinstance(value, list) else value
