"""Recommendations compare the times of past items with what training has compared them with."""

import pytest

from foundrank.data.config.experiment import Experiment
from foundrank.data.config.kinds import experiment_type
from foundrank.data.errors import UserError
from foundrank.dist.score.recommend_input import check_retrieves, user_needs
from foundrank.model.kinds import KINDS
from tests.tiny_world import experiment_dict


def experiment_of(times: dict[str, str], history_time: str | None = None, time_bias: bool = True) -> Experiment:
    """Of domains with these columns of times; the domain ``new`` has no users."""
    raw = experiment_dict()
    raw["entities"]["user"]["history"] |= {"times": "when"} | ({"time": history_time} if history_time else {})
    for name, column in times.items():
        raw["domains"][name]["time"] = column
    raw["domains"]["new"]["users"] = False
    raw["model"] = raw.get("model", {}) | {"history": {"encoder": "sasrec", "time_bias": time_bias}, "next_item": {}}
    return experiment_type(KINDS).model_validate(raw)


@pytest.mark.parametrize(
    ("experiment", "beside"),
    [
        (experiment_of({"find": "ts", "home": "ts", "new": "other"}), ["when", "ts"]),
        (experiment_of({"find": "ts", "home": "other"}, "at"), ["when", "at"]),
        (experiment_of({"find": "at", "home": "at"}, "at"), ["when", "at"]),
        (experiment_of({}), ["when"]),
        (experiment_of({"find": "ts", "home": "other"}, time_bias=False), []),
    ],
)
def test_the_time_of_the_event_is_needed_as_in_training(experiment: Experiment, beside: list[str]):
    check_retrieves("run", experiment, None)
    assert [need.name for need in user_needs(experiment)] == ["user", "history", *beside]


@pytest.mark.parametrize("times", [{"find": "ts"}, {"find": "ts", "home": "other"}])
def test_domains_that_disagree_about_the_time_are_refused(times: dict[str, str]):
    with pytest.raises(UserError, match=r"entities.user.history.time.*find: ts, home: (none|other)"):
        check_retrieves("run", experiment_of(times), None)
