import pyarrow as pa
import pytest

from foundrank.data.columns import holds, needed_columns
from foundrank.data.experiment import Experiment
from tests.unit.data.tiny_world import experiment_dict

ID, LIST, NUMBER, VECTOR, LABEL = "id", "list of ids", "number", "vector", "label"
TABLE = {
    pa.null(): {ID, LIST, NUMBER, VECTOR, LABEL},
    pa.int8(): {ID, NUMBER, LABEL},
    pa.uint64(): {ID, NUMBER, LABEL},
    pa.string(): {ID},
    pa.large_string(): {ID},
    pa.string_view(): {ID},
    pa.dictionary(pa.int8(), pa.string()): {ID},
    pa.dictionary(pa.int8(), pa.int64()): {ID},
    pa.dictionary(pa.int8(), pa.float64()): set(),
    pa.float16(): {NUMBER, LABEL},
    pa.float64(): {NUMBER, LABEL},
    pa.bool_(): {NUMBER, LABEL},
    pa.decimal128(9, 2): {NUMBER},
    pa.binary(): set(),
    pa.timestamp("ms"): set(),
    pa.list_(pa.int32()): {LIST},
    pa.large_list(pa.string()): {LIST},
    pa.list_(pa.string(), 2): {LIST},
    pa.list_(pa.null()): {LIST},
    pa.list_(pa.list_(pa.int32())): set(),
    pa.list_(pa.float32()): {VECTOR},
    pa.large_list(pa.float16()): {VECTOR},
    pa.list_(pa.float32(), 2): {VECTOR},
    pa.list_(pa.float32(), 3): set(),
}


@pytest.mark.parametrize("kind", TABLE, ids=str)
def test_what_each_type_can_serve_as(kind):
    assert {wanted for wanted in (ID, LIST, NUMBER, VECTOR, LABEL) if holds(kind, wanted, 2)} == TABLE[kind]


def test_what_each_domain_needs():
    experiment = Experiment.model_validate(experiment_dict())
    needs = {d: {n.name: n.holds for n in needed_columns(experiment, d)} for d in experiment.domains}
    common = {"user": ID, "item": ID, "clicks": NUMBER, "history": LIST, "hour": ID, "click": LABEL, "row": ID}
    search = {"query": ID, "query_vector": VECTOR, "intent": ID}
    own = {"rank": NUMBER, "matched": LIST, "slot": ID, "buy": LABEL, "truth": "probability"}
    assert needs["find"] == common | search | own
    assert needs["home"] == common | {"slot": ID, "picture": VECTOR}
    assert needs["new"] == common | {"like": LABEL}


def test_scoring_needs_no_labels():
    experiment = Experiment.model_validate(experiment_dict())
    scoring = {n.name for n in needed_columns(experiment, "find", with_labels=False)}
    training = {n.name for n in needed_columns(experiment, "find")}
    assert training - scoring == {"click", "buy", "truth", "row"}


def test_a_need_names_the_field_that_asks():
    experiment = Experiment.model_validate(experiment_dict())
    fields = {n.name: (n.field, n.size) for n in needed_columns(experiment, "find")}
    assert fields["query_vector"] == ("entities.query.text_vector", 2)
    assert fields["clicks"] == ("entities.user.features.clicks", 0)
    assert fields["hour"] == ("context.hour", 0)
    assert fields["matched"] == ("domains.find.features.matched", 0)
    assert fields["buy"] == ("domains.find.tasks.buy.label", 0)
    assert fields["truth"] == ("domains.find.tasks.click.probability", 0)
