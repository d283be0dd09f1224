"""Kinds: which there are, what an experiment says of them, and a kind of one's own."""

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from pydantic import Field

from foundrank.data.config.experiment import Experiment
from foundrank.data.config.kinds import Kinds, experiment_type
from foundrank.data.config.load import dump_experiment, load_experiment
from foundrank.data.errors import UserError
from foundrank.data.settings_base import Positive, Strict
from foundrank.model.heads import PLE, STAR, MMoE
from foundrank.model.kinds import KINDS
from tests.tiny_world import experiment_dict


class Wide(Strict):
    """A head of a user's own."""

    head: Literal["wide"] = "wide"
    rank: Positive = Field(default=3, description="of the product")


MINE = KINDS.with_(heads={"wide": Wide})


def loaded(folder: Path, model: Any, *overrides: str, kinds: Kinds = KINDS) -> Experiment:
    path = folder / "experiment.yaml"
    path.write_text(yaml.safe_dump(experiment_dict() | {"model": model}))
    return load_experiment(path, overrides, kinds=kinds)


def told(folder: Path, model: Any, *overrides: str, kinds: Kinds = KINDS) -> str:
    with pytest.raises(UserError) as error:
        loaded(folder, model, *overrides, kinds=kinds)
    return str(error.value).replace(f"{folder}/experiment.yaml: ", "")


@pytest.mark.parametrize(
    ("model", "head"),
    [
        ({}, MMoE()),
        ({"head": "ple"}, PLE()),
        ({"head": {"head": "ple", "experts": 7}}, PLE(experts=7)),
        ({"head": {"experts": 7}}, MMoE(experts=7)),
        ({"experts": 7, "expert_widths": [5], "tower_widths": [4], "dropout": 0.2}, MMoE(experts=7, widths=(5,), tower_widths=(4,), dropout=0.2)),
        ({"head": "star", "dropout": 0.2}, STAR(dropout=0.2)),
        ({"head": {"head": "ple"}, "experts": 7}, PLE(experts=7)),
    ],
)  # fmt: skip
def test_a_kind_is_an_object_of_its_class(tmp_path, model, head):
    assert loaded(tmp_path, model).model.head == head


@pytest.mark.parametrize(
    ("model", "overrides", "head"),
    [
        ({}, ["model.head=ple"], PLE()),
        ({}, ["model.head={head: ple, experts: 7}"], PLE(experts=7)),
        ({"head": "ple"}, ["model.head.experts=7"], PLE(experts=7)),
        ({"head": "ple"}, ["model.experts=7"], PLE(experts=7)),
        ({}, ["model.head.experts=7"], MMoE(experts=7)),
        ({"experts": 7}, ["model={experts: 5}"], MMoE(experts=5)),
        ({"experts": 7, "dropout": 0.2}, ["model.head=ple"], PLE(experts=7, dropout=0.2)),
        ({"experts": 7, "dropout": 0.2}, ["model.head=star"], STAR(dropout=0.2)),  # as the file with another head
        ({"experts": 7, "dropout": 0.2}, ["model.head.head=star"], STAR(dropout=0.2)),
        ({"experts": 7}, ["model.head=star;model.head=mmoe"], MMoE()),
    ],
)
def test_overrides_of_kinds(tmp_path, model, overrides, head):
    assert loaded(tmp_path, model, *overrides).model.head == head


@pytest.mark.parametrize(
    ("model", "overrides", "message"),
    [
        ({"head": "pel"}, [], "model.head.head: 'pel' is not one of its kinds. Did you mean 'ple'?"),
        ({"head": {"head": 3}}, [], "model.head.head: '3' is not one of its kinds. Known: mmoe, ple"),
        ({"head": [1]}, [], "model.head.head: 'head' is required and missing. Add it: mmoe, shared_bottom, ple, star."),
        ({"head": {"expert": 3}}, [], "model.head.expert: unknown key 'expert'. Did you mean 'experts'?"),
        ({"head": {"experts": 0}}, [], "model.head.experts: Input should be greater"),
        (
            {"head": {"head": "star", "experts": 3}}, [],
            "model.head.experts: has no effect: head: star has no such setting. Remove it, or choose head: mmoe or head: ple.",
        ),
        ({"head": "star", "experts": 3}, [], "model.experts: has no effect: head: star has no such setting."),
        ({"head": "star"}, ["model.experts=3"], "model.head.experts: has no effect: head: star"),
        ({"head": {"experts": 3}, "experts": 3}, [], "model.experts: is the old key of model.head.experts, which is there too. Remove"),
        ({"experts": "many"}, [], "model.experts: Input should be a valid integer"),
        ({}, ["model.head.experts.x=3"], "--set model.head.experts.x=3: is"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_by_the_keys_of_the_file(tmp_path, model, overrides, message):
    if overrides and "experts.x" in overrides[0]:
        model, message = {"experts": 3}, "--set model.head.experts.x=3: 'experts' is a value, not a section"
    assert told(tmp_path, model, *overrides).startswith(message)


def test_what_had_no_effect_in_an_old_run_is_left_out(tmp_path):
    old = {"head": "star", "experts": 9, "expert_widths": [6], "tower_widths": [4], "dropout": 0.2}
    (tmp_path / "vocabulary").mkdir()
    (tmp_path / "vocabulary" / "statistics.json").touch()
    experiment = loaded(tmp_path, old)
    assert experiment.model.head == STAR(widths=(6,), tower_widths=(4,), dropout=0.2)
    (tmp_path / "again.yaml").write_text(dump_experiment(experiment))
    assert load_experiment(tmp_path / "again.yaml", kinds=KINDS) == experiment
    with pytest.raises(UserError, match=r"model.head.expertz: unknown key"):
        loaded(tmp_path, {"head": {"head": "star", "expertz": 9}, "experts": 9})
    with pytest.raises(UserError, match=r"model.head.experts: has no effect: head: star"):
        loaded(tmp_path, old, "model.head.experts=3")


def test_what_an_old_run_says_of_features_without_effect_is_left_out(tmp_path):
    old = experiment_dict()
    every = {"encoding": "vocab", "buckets": 100_000, "min_count": 1, "transform": "none", "max_length": 50}
    owners = [*old["entities"].values(), *old["domains"].values()]
    for features in (old["context"], *(owner.get("features", {}) for owner in owners)):
        features.update({name: every | feature for name, feature in features.items()})
    for entity in old["entities"].values():
        entity.update({name: entity.get(name, every[name]) for name in ("encoding", "buckets", "min_count")})
    path = tmp_path / "experiment.yaml"
    path.write_text(yaml.safe_dump(old))
    with pytest.raises(UserError, match="has no effect"):
        load_experiment(path, kinds=KINDS)
    (tmp_path / "vocabulary").mkdir()
    (tmp_path / "vocabulary" / "statistics.json").touch()
    read = load_experiment(path, kinds=KINDS)
    assert read == loaded(tmp_path, {})


def test_a_kind_of_ones_own(tmp_path):
    experiment = loaded(tmp_path, {"head": {"head": "wide", "rank": 5}}, kinds=MINE)
    assert experiment.model.head == Wide(rank=5)
    assert "Did you mean 'wide'?" in told(tmp_path, {"head": "wides"}, kinds=MINE)
    assert "'wide' is not one of its kinds" in told(tmp_path, {"head": "wide"})
    (tmp_path / "again.yaml").write_text(dump_experiment(experiment))
    assert load_experiment(tmp_path / "again.yaml", kinds=MINE) == experiment
    alone = replace(KINDS, heads={"mmoe": MMoE})
    assert loaded(tmp_path, {"head": {"experts": 5}}, kinds=alone).model.head == MMoE(experts=5)


def test_kinds_are_refused_that_nothing_could_choose():
    with pytest.raises(UserError, match=r"kinds: head: is nothing that has kinds\. Did you mean 'heads'\?"):
        KINDS.with_(head={"wide": Wide})
    with pytest.raises(UserError, match="kinds: heads: ple: is the name of another kind"):
        KINDS.with_(heads={"ple": Wide})
    with pytest.raises(
        UserError, match=r'kinds: heads: narrow: is Wide, .* Give the class the field head: Literal\["narrow"\]'
    ):
        experiment_type(KINDS.with_(heads={"narrow": Wide}))
    assert set(KINDS.heads) == {"mmoe", "ple", "star", "shared_bottom"}  # and the shipped ones stay what they were


def test_equal_kinds_make_the_same_type():
    again = KINDS.with_(heads={"wide": Wide})
    assert again == MINE
    assert experiment_type(again) is experiment_type(MINE)
    assert experiment_type(again) is not experiment_type(KINDS)
    assert issubclass(experiment_type(KINDS), Experiment)


@pytest.mark.parametrize("kinds", [KINDS, MINE], ids=["shipped", "mine"])
def test_an_experiment_can_be_handed_to_another_process(tmp_path, kinds):
    experiment = loaded(tmp_path, {"head": "ple"}, kinds=kinds)
    handed = pickle.loads(pickle.dumps(experiment))  # noqa: S301
    assert handed == experiment
    assert type(handed) is type(experiment)
    assert pickle.loads(pickle.dumps(experiment.model)) == experiment.model  # noqa: S301


def test_the_schema_takes_the_short_form_and_the_long_one():
    head = experiment_type(MINE).model_json_schema()["$defs"]["ModelConfig"]["properties"]["head"]
    assert head["anyOf"][0]["enum"] == ["mmoe", "shared_bottom", "ple", "star", "wide"]
    assert {"$ref": "#/$defs/Wide"} in head["anyOf"]
