"""A run that was moved reads what moved with it."""

import json
import shutil

import pytest

from foundrank.data.config.locations import locations
from foundrank.data.counting.counting_pass import count
from foundrank.data.errors import UserError
from foundrank.dist.run.new_run import check_new_or_same, check_same_events, create_run
from foundrank.dist.run.run_folder import open_experiment
from tests.tiny_world import random_events, train_files, write_world


@pytest.fixture
def project(tmp_path):
    """A folder with data and a run beside it."""
    experiment = write_world(tmp_path / "a/w", random_events(1, {"find": 20, "home": 20, "new": 20}))
    create_run(tmp_path / "a/r", experiment, count(experiment, train_files(experiment)), train_files(experiment))
    return tmp_path / "a"


def below(folder, experiment):
    return [location.startswith(f"{folder}/") for location in locations(experiment) if "text" not in location]


def test_data_and_run_moved_together(project, tmp_path):
    b = shutil.move(project, tmp_path / "b")
    assert all(below(b, open_experiment(b / "r")))
    moved = open_experiment(b / "r")
    assert check_new_or_same(b / "r", moved)
    check_same_events(b / "r", train_files(moved))


def test_the_copied_data_of_a_copied_run_is_read_and_either_is_the_same_experiment(project, tmp_path):
    was = open_experiment(project / "r")
    b = shutil.copytree(project, tmp_path / "b")
    copied = open_experiment(b / "r")
    assert all(below(b, copied))
    assert all(below(project, open_experiment(project / "r")))
    assert check_new_or_same(b / "r", copied)
    assert check_new_or_same(b / "r", was)


def test_where_only_the_run_moved_the_data_stays(project, tmp_path):
    run = shutil.move(project / "r", tmp_path / "elsewhere")
    assert all(below(project, open_experiment(run)))


def test_other_data_at_another_place_is_another_experiment(project, tmp_path):
    b = shutil.copytree(project, tmp_path / "b")
    shutil.copytree(b / "w", tmp_path / "c/w")
    moved = open_experiment(b / "r")
    raw = json.loads(moved.model_dump_json(exclude_none=True).replace(f"{b}/w", f"{tmp_path}/c/w"))
    with pytest.raises(UserError, match="another experiment"):
        check_new_or_same(b / "r", type(moved).model_validate(raw))


def test_a_run_of_an_older_version_reads_what_its_experiment_names(project, tmp_path):
    (project / "r/run.json").write_text('{"format": 2}')
    b = shutil.copytree(project, tmp_path / "b")
    assert all(below(project, open_experiment(b / "r")))
