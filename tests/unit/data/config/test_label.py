"""Labels that are a condition on a column: what the file may say, and what is read."""

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foundrank.data.arrow.column_types import LABEL, STRING_LABEL
from foundrank.data.config.load import load_experiment, plain
from foundrank.data.config.sections.domains import DomainConfig
from foundrank.data.errors import UserError
from foundrank.data.schema.labels import read_labels
from foundrank.model.kinds import KINDS
from foundrank.model.tasks.binary import Binary
from tests.tiny_world import experiment_dict
from tests.toy_task import Amount


def labelled(label) -> dict:
    raw = experiment_dict()
    raw["domains"]["home"]["tasks"]["click"]["label"] = label
    return raw


def read(label, column: pa.Array | pa.ChunkedArray) -> list[float | None]:
    tasks = {"long": Binary.model_validate({"label": label})}
    domain = DomainConfig.model_validate({"kind": "search", "events": {"train": "x"}}).model_copy(
        update={"tasks": tasks}
    )
    values = read_labels(domain, "long", pa.table({"w": column}))
    assert values.dtype == np.float64
    return [None if math.isnan(value) else value for value in values]


COMPARED = {"at_least": "__ge__", "above": "__gt__", "at_most": "__le__", "below": "__lt__", "equals": "__eq__"}


@settings(max_examples=30)
@given(
    st.sampled_from(sorted(COMPARED)),
    st.integers(-3, 3),
    st.lists(st.none() | st.integers(-4, 4)),
    st.sampled_from([pa.int8(), pa.float32(), pa.decimal128(4, 1)]),
)
def test_a_comparison_makes_labels_of_0_and_1_and_null_stays_none(name, bound, values, kind):
    wanted = [None if value is None else float(getattr(value, COMPARED[name])(bound)) for value in values]
    assert read({"column": "w", name: bound}, pa.array(values, kind)) == wanted
    assert read("w", pa.array(values, kind)) == [None if value is None else float(value) for value in values]


STRINGS = ["buy", None, "view", "", "buy"]


@pytest.mark.parametrize(
    "column",
    [
        pa.array(STRINGS),
        pa.array(STRINGS, pa.string_view()),
        pa.array(STRINGS).dictionary_encode(),
        pa.chunked_array([STRINGS[:2], [], STRINGS[2:]], pa.large_string()),
    ],
    ids=str,
)
def test_a_string_is_compared_with_one_or_several(column):
    assert read({"column": "w", "equals": "buy"}, column) == [1, None, 0, 0, 1]
    assert read({"column": "w", "one_of": ["view", "save"]}, column) == [0, None, 1, 0, 0]


def test_numbers_and_booleans_are_compared_with_several_too():
    assert read({"column": "w", "one_of": [1, 3]}, pa.array([1, 2, 3, None])) == [1, 0, 1, None]
    assert read({"column": "w", "equals": False}, pa.array([True, False, None])) == [0, 1, None]
    assert read({"column": "w", "at_least": 2}, pa.array([math.nan, 3.0])) == [None, 1]
    for label in ({"column": "w", "equals": "buy"}, {"column": "w", "below": 1}):
        assert read(label, pa.nulls(2)) == [None, None]


def test_what_the_column_must_hold():
    assert Binary.model_validate({"label": {"column": "w", "equals": "buy"}}).columns("t")[0].holds == STRING_LABEL
    need = Binary.model_validate({"label": {"column": "w", "at_least": 30}}).columns("t")[0]
    assert (need.name, need.holds, need.field) == ("w", LABEL, "t.label")
    assert need.bad is not None
    assert need.bad.find(pa.array([7.0, None, math.nan])) is None  # no 0 and no 1, and good all the same
    assert need.bad.find(pa.array([7.0, -math.inf])).tolist() == [False, True]


def test_a_column_alone_stays_short_in_the_file():
    loaded = load_experiment(labelled({"column": "click"}), kinds=KINDS)
    assert loaded == load_experiment(labelled("click"), kinds=KINDS)
    assert plain(loaded)["domains"]["home"]["tasks"]["click"]["label"] == "click"
    condition = {"column": "w", "at_least": 30.0}
    assert (
        plain(load_experiment(labelled(condition), kinds=KINDS))["domains"]["home"]["tasks"]["click"]["label"]
        == condition
    )


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ({"column": "w", "at_least": 1, "below": 3}, "label: has at_least and below; a label has one condition"),
        ({"column": "w", "atleast": 1}, "label.atleast: unknown key 'atleast'. Did you mean 'at_least'?"),
        ({"at_least": 1}, "label.column: 'column' is required and missing"),
        ({"column": "w", "one_of": ["a", 1]}, "label: one_of has numbers and strings"),
        ({"column": "w", "one_of": []}, "label.one_of: Tuple should have at least 1 item"),
        ({"column": "w", "at_least": math.nan}, "label.at_least: Input should be a finite number"),
        ({"column": "w", "equals": 2**53 + 1}, "label: compares with a number of more than 15 digits"),
        (3, "label: Input should be the name of a column, or a column and a condition (got 3)"),
    ],
)
def test_what_is_no_label_is_refused(label, words):
    with pytest.raises(UserError) as error:
        load_experiment(labelled(label), kinds=KINDS)
    assert f"domains.home.tasks.click.{words}" in str(error.value)


def test_only_kinds_that_take_0_and_1_have_conditions():
    raw = labelled({"column": "w", "at_least": 30})
    raw["domains"]["home"]["tasks"]["spent"] = {"kind": "amount", "label": {"column": "w", "above": 0}}
    with pytest.raises(
        UserError, match=r"spent\.label: is a condition, which makes labels of 0 and 1; this kind of task takes a"
    ):
        load_experiment(raw, kinds=KINDS.with_(tasks={"amount": Amount}))
