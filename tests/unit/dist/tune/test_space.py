"""What is tried: ranges as they are written, checked against the experiment."""

import pytest
import yaml

from foundrank.data.config.load import load_experiment, plain
from foundrank.data.errors import UserError
from foundrank.dist.tune.space import Setting, fitted, own_value, read_space, usual_space
from foundrank.model.kinds import KINDS
from tests.tiny_world import experiment_dict


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "experiment.yaml"
    path.write_text(yaml.safe_dump(experiment_dict()))
    return path


def written(tmp_path, text):
    path = tmp_path / "space.yaml"
    path.write_text(text)
    return path


def fit(tmp_path, file, text, *overrides):
    path = written(tmp_path, text)
    return fitted(read_space(path), str(file), overrides, load_experiment(file, overrides, kinds=KINDS), path)


def test_a_space_is_read_with_whole_numbers_and_others(tmp_path):
    found = read_space(written(tmp_path, "a.b: {log: [1e-4, 0.1]}\nc: {linear: [1, 6]}\nd: {choice: [x, 2, [1, 2]]}\n"))
    assert found["a.b"].log == (1e-4, 0.1)
    assert found["c"].linear == (1, 6)
    assert all(isinstance(end, int) for end in found["c"].ends or ())
    assert found["d"].choice == ("x", 2, [1, 2])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: {log: [0, 1]}", "a: is no range of values: a logarithmic scale begins above 0"),
        ("a: {linear: [2, 1]}", "2 is not below 1"),
        ("a: {linear: [1, 2], choice: [1]}", "one of linear"),
        ("a: {}", "one of linear"),
        ("a: {from: 1}", "a: is no range"),
        ("a: 3", "a: is no range"),
        ("a: {choice: []}", "a: is no range"),
        ("[1]", "names no setting"),
        ("", "names no setting"),
    ],
)
def test_what_is_no_space_is_told(tmp_path, text, said):
    with pytest.raises(UserError, match=said):
        read_space(written(tmp_path, text))


def test_no_such_file(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        read_space(tmp_path / "space.yaml")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("training.lerning_rate: {log: [0.001, 0.1]}", r"space.yaml: training.lerning_rate.*learning_rate"),
        ("training.learning_rate: {linear: [-1.0, 0.1]}", r"space.yaml: training.learning_rate"),
        ("model.gate: {choice: [domain_gate, mist]}", r"space.yaml: model.gate"),
        ("training.batch_size: {linear: [0.5, 2.5]}", r"space.yaml: training.batch_size"),
        ("model.next_item.mask_share: {linear: [0.1, 0.5]}", r"space.yaml: model.next_item"),
    ],
)
def test_what_the_experiment_does_not_take_is_told_before_work_starts(tmp_path, file, text, said):
    with pytest.raises(UserError, match=said):
        fit(tmp_path, file, text)


@pytest.mark.parametrize(
    "text",
    [
        *("seeds: {choice: [1, 3]}", "seed: {linear: [1, 3]}", "training.keep_best: {choice: [true, false]}"),
        *("domains.find.events.validation: {choice: [a.parquet]}", "domains.find.events: {choice: [{}]}"),
    ],
)
def test_what_trials_must_have_in_common_is_not_tried(tmp_path, file, text):
    with pytest.raises(UserError, match="is the same in all trials"):
        fit(tmp_path, file, text)


def test_the_experiments_own_values_are_among_those_tried(tmp_path, file):
    text = (
        "training.learning_rate: {log: [0.001, 0.01]}\ntraining.batch_size: {choice: [64, 128]}\n"
        "training.epochs: {linear: [3, 4]}\nmodel.gate: {choice: [mean]}\ntraining.max_steps: {linear: [5, 9]}\n"
    )
    found = fit(tmp_path, file, text, "training.learning_rate=0.3", "training.batch_size=32", "model.gate=domain_gate")
    assert found["training.learning_rate"].log == (0.001, 0.3)
    assert found["training.batch_size"].choice == (32, 64, 128)
    assert found["training.epochs"].linear == (2, 4)
    assert found["model.gate"].choice == ("domain_gate", "mean")
    assert found["training.max_steps"].linear == (5, 9)  # which is not set


def test_of_the_usual_space_stays_what_the_experiment_has_a_use_for(file):
    loaded = load_experiment(file, ["model.aspects=[id]"], kinds=KINDS)
    found = fitted(usual_space(1000), str(file), ["model.aspects=[id]"], loaded, None)
    assert "training.learning_rate" in found
    assert "model.id_dropout" not in found


def test_more_rows_are_tried_in_larger_batches_and_fewer_epochs():
    few, many = usual_space(50_000), usual_space(50_000_000)
    assert max(few["training.batch_size"].choice) < min(many["training.batch_size"].choice)
    assert few["training.epochs"].ends[1] > many["training.epochs"].ends[1]
    assert usual_space(0) == usual_space(1)


def test_a_kind_is_told_by_its_name(file):
    raw = plain(load_experiment(file, ["model.gate=mean"], kinds=KINDS))
    assert own_value(raw, "model.gate") == "mean"
    assert own_value(raw, "model.nothing") is None


def test_true_is_no_number_between_others():
    assert not Setting(linear=(0, 2)).has(True)
    assert Setting(linear=(0, 2)).with_(True) == Setting(linear=(0, 2))
