"""Partitions: what a pattern leaves open."""

from pathlib import Path

import pytest

from foundrank.data.config.experiment import Experiment
from foundrank.data.config.load import load_experiment
from foundrank.data.errors import UserError
from foundrank.dist.increments.partitions import partitions, patterns_of
from foundrank.model.kinds import KINDS
from tests.tiny_world import experiment_dict


def touch(folder: Path, *files: str) -> None:
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).touch()


def test_each_folder_that_is_left_open_is_one_in_the_order_of_their_names(tmp_path):
    touch(tmp_path, "shop/day=02/a.parquet", "shop/day=01/a.parquet", "shop/day=01/b.parquet", "video/day=02/a.parquet")
    found = partitions({name: f"{tmp_path}/{name}/day=*/*.parquet" for name in ("shop", "video")})
    assert found == [
        {"shop": f"{tmp_path}/shop/day=01/*.parquet"},
        {name: f"{tmp_path}/{name}/day=02/*.parquet" for name in ("shop", "video")},
    ]


@pytest.mark.parametrize("pattern", ["shop/day=01/*.parquet", "shop/**/*.parquet", "shop/day=01/a.parquet"])
def test_what_names_one_folder_or_any_depth_is_one(tmp_path, pattern):
    touch(tmp_path, "shop/day=02/a.parquet", "shop/day=01/a.parquet")
    assert partitions({"shop": f"{tmp_path}/{pattern}"}) == [{"shop": f"{tmp_path}/{pattern}"}]


def test_a_folder_whose_name_is_the_pattern_is_meant(tmp_path):
    touch(tmp_path, "day=[1]/a.parquet", "day=1/a.parquet")
    assert partitions({"shop": f"{tmp_path}/day=[1]/*.parquet"}) == [{"shop": f"{tmp_path}/day=[1]/*.parquet"}]


@pytest.fixture
def experiment() -> Experiment:
    return load_experiment(experiment_dict(), kinds=KINDS)


def test_patterns_are_of_the_domains_that_they_name(tmp_path, experiment):
    touch(tmp_path, "find/a.parquet", "home/a.parquet", "x/a.parquet")
    assert patterns_of(["{domain}/*.parquet"], experiment, str(tmp_path)) == {
        name: f"{tmp_path}/{name}/*.parquet" for name in ("find", "home", "new")
    }
    assert patterns_of(["home=x/*.parquet", "find=find/*"], experiment, str(tmp_path)) == {
        "home": f"{tmp_path}/x/*.parquet", "find": f"{tmp_path}/find/*",
    }  # fmt: skip
    assert patterns_of([], experiment, str(tmp_path)) == {}


@pytest.mark.parametrize(
    ("events", "words"),
    [
        (["x/*.parquet"], "does not say of which of the 3 domains"),
        (["finnd=x/*.parquet"], "find"),
        (["find=nothing/*.parquet"], "names no file"),
        (["find=x/*.parquet", "{domain}/*.parquet"], "as another one does"),
    ],
)
def test_what_is_not_clear_is_told(tmp_path, experiment, events, words):
    touch(tmp_path, "find/a.parquet", "x/a.parquet")
    with pytest.raises(UserError, match=words):
        patterns_of(events, experiment, str(tmp_path))
