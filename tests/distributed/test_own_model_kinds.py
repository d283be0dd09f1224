"""A gate, a head and a history encoder of one's own are a class and an entry each: trained, kept, scored and fine-tuned by nothing else."""

from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from torch import Tensor, nn

import foundrank
from foundrank.data.config.experiment import Experiment
from foundrank.data.config.load import load_experiment
from foundrank.data.settings_base import Positive, Strict
from foundrank.dist.ranks.runtime import Runtime
from foundrank.dist.run.checkpoint_reader import read_tensors
from foundrank.dist.run.kept_checkpoints import best
from foundrank.dist.run.run_folder import open_run
from foundrank.model.foundation.transfer import shapes_only
from foundrank.model.gates.weighted_sum import fuse, masked_softmax
from foundrank.model.kinds import KINDS
from foundrank.model.layers.axes import Axis, axes_of, declare, linear, named
from foundrank.model.layers.domain_rows import to_rows
from foundrank.model.layers.forms import EVERY, Columns
from tests.tiny_world import experiment_dict, random_events, write_world

from .harness import run_ranks
from .rank_work import train_run


class Fixed(Strict):
    """The same weights for all rows."""

    kind: Literal["fixed"] = "fixed"

    def build(self, width: int, aspects: Axis) -> nn.Module:
        return FixedGate(aspects)


class FixedGate(nn.Module):
    def __init__(self, aspects: Axis):
        super().__init__()
        self.scores = nn.Parameter(torch.zeros(aspects.size))
        declare(self, {"scores": (aspects,)})

    def forward(self, aspects: Tensor, present: Tensor, domains: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        weights = masked_softmax(self.scores.expand(len(aspects), -1), present)
        return fuse(aspects, weights), weights


class Shallow(Strict):
    """A logit is a product with what its domain and task have."""

    head: Literal["shallow"] = "shallow"

    def build(self, inputs: Axis, domains: Axis, tasks: Axis, learned: Columns = EVERY) -> nn.Module:
        return ShallowHead(inputs, domains, tasks)


class ShallowHead(nn.Module):
    def __init__(self, inputs: Axis, domains: Axis, tasks: Axis):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(domains.size, tasks.size, inputs.size) * 0.1)
        declare(self, {"weight": (domains, tasks, inputs)})

    def forward(self, z: Tensor, domain_lengths: list[int]) -> Tensor:
        return (to_rows(self.weight, domain_lengths) @ z.float().unsqueeze(2)).squeeze(2)


class Newest(Strict):
    """The newest items, through one layer each."""

    encoder: Literal["newest"] = "newest"
    layers: Positive = 1

    def build(self, width: int, past: int, mask_share: float) -> nn.Module:
        return NewestEncoder(width, self.layers)


class NewestEncoder(nn.Module):
    def __init__(self, width: int, layers: int):
        super().__init__()
        self.layers = nn.Sequential(*(linear(width, width) for _ in range(layers)))

    def forward(self, sequence, candidate: Tensor | None = None) -> Tensor:
        return sequence.newest(self.layers(sequence.items).float())


MINE = KINDS.with_(gates={"fixed": Fixed}, heads={"shallow": Shallow}, histories={"newest": Newest})


def experiment_of(folder: Path, *overrides: str) -> Experiment:
    return load_experiment(folder, ["training.keep_best=false", *overrides], kinds=MINE)


def trained_and_tuned(runtime: Runtime, folder: Path) -> None:
    train_run(runtime, experiment_of(folder, "only=[find, home]"), folder / "run")
    tuned = experiment_of(
        folder, "only=[find, home, new]", f"init_from={folder / 'run'}", "training.freeze=[L0, L1, L2]"
    )
    train_run(runtime, tuned, folder / "tuned")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own_kinds")
    write_world(folder, random_events(0, {"find": 200, "home": 400, "new": 100}))
    experiment = experiment_dict()
    experiment["model"] = {"aspects": ["id", "sparse"], "gate": "fixed", "head": "shallow", "domain_width": 0}
    experiment["model"]["history"] = {"encoder": "newest", "layers": 2}
    experiment["training"] |= {"epochs": 2, "batch_size": 32, "learning_rate": 0.01}
    (folder / "experiment.yaml").write_text(yaml.safe_dump(experiment))
    run_ranks(trained_and_tuned, 1, folder)
    return folder


def parameters(run: Path, *names: str) -> dict[str, Tensor]:
    """Some of the dense parameters of a run's checkpoint."""
    experiment, statistics = open_run(run, MINE)
    shapes = dict(shapes_only(statistics.layout(experiment), experiment.model).named_parameters())
    held = {f"dense.{name}": torch.empty(shapes[name].shape) for name in names}
    read_tensors(best(run), {"model": held})
    return {name: held[f"dense.{name}"] for name in names}


def test_their_parameters_have_axes_and_are_learnt(runs: Path):
    experiment, statistics = open_run(runs / "run", MINE)
    layout = statistics.layout(experiment)
    dense = shapes_only(layout, experiment.model)
    axes = axes_of(dense)
    assert axes["head.weight"] == (
        named("domain", ("find", "home")),
        named("task", layout.outputs, layout.output_kinds),
        dense.inputs,
    )
    assert axes["represent.encoder.gates.item.scores"] == (named("aspect", ("id", "sparse")),)
    assert axes["history.encoder.layers.1.weight"] == ("out", "in")
    (scores,) = parameters(runs / "run", "represent.encoder.gates.item.scores").values()
    assert scores.any()


def test_they_score(runs: Path):
    rows = pq.read_table(runs / "home/part-000.parquet")
    scores = foundrank.load(runs / "run", kinds=MINE).score(rows, "home")["score_click"].to_numpy()
    assert len(scores) == len(rows)
    assert np.unique(scores).size > len(rows) // 2


def test_fine_tuning_carries_their_parameters_by_name(runs: Path):
    names = ("history.encoder.layers.0.weight", "represent.encoder.gates.user.scores")
    before, after = parameters(runs / "run", *names), parameters(runs / "tuned", *names)
    for name in names:  # of a frozen level
        assert after[name].equal(before[name])
