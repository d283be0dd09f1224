"""What a training is made of before it begins."""

import json

import pytest
import yaml

from foundrank.data.config.load import load_experiment, plain
from foundrank.data.errors import UserError
from foundrank.dist.train.prepare import prepare
from foundrank.model.kinds import KINDS
from tests.tiny_world import random_events, write_world


def test_a_training_goes_on_in_the_order_that_its_run_has(tmp_path):
    """What a parameter or a position of an epoch belongs to is told by place, and the file may be sorted in the meantime."""
    write_world(tmp_path, random_events(1, {"find": 20, "home": 20, "new": 20}))
    begun = load_experiment(tmp_path, kinds=KINDS)
    first = prepare(begun, str(tmp_path / "run"))
    raw = yaml.safe_load((tmp_path / "experiment.yaml").read_text())
    for part in (raw["domains"], raw["domains"]["find"]["tasks"], raw["entities"]["item"]["features"]):
        turned = list(part.items())[::-1]
        part.clear()
        part.update(turned)
    (tmp_path / "experiment.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    sorted_anew = load_experiment(tmp_path, kinds=KINDS)
    assert list(sorted_anew.domains) != list(begun.domains)

    again = prepare(sorted_anew, str(tmp_path / "run"))
    assert json.dumps(again.experiment.model_dump(mode="json")) == json.dumps(begun.model_dump(mode="json"))
    assert list(again.events) == list(first.events)


def test_the_batch_size_that_the_data_decides_is_told_kept_and_not_decided_again(tmp_path, capsys):
    world = write_world(tmp_path / "world", random_events(1, {"find": 40, "home": 40, "new": 20}))
    raw = plain(world)
    del raw["training"]["batch_size"]
    silent = load_experiment(raw, ["text.vectors=none"], kinds=KINDS)
    job = prepare(silent, tmp_path / "run")
    assert "training.batch_size: 128, for 100 rows of training" in capsys.readouterr().err
    assert job.experiment.training.batch_size == 128
    assert yaml.safe_load((tmp_path / "run" / "experiment.yaml").read_text())["training"]["batch_size"] == 128
    # A run that an earlier version began, which decided nothing.
    kept = tmp_path / "run" / "experiment.yaml"
    kept.write_text(kept.read_text().replace("batch_size: 128", "batch_size: 1024"))
    assert prepare(silent, tmp_path / "run").experiment.training.batch_size == 1024
    assert "training.batch_size" not in capsys.readouterr().err


@pytest.mark.parametrize("inside", ["counting", "counting/key"])
def test_what_is_counted_is_not_written_through_links(tmp_path, inside):
    world = write_world(tmp_path / "world", random_events(1, {"find": 20, "home": 20, "new": 20}))
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "run" / inside
    link.parent.mkdir(parents=True)
    link.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="is a link"):
        prepare(world, str(tmp_path / "run"))
