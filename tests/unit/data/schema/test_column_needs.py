from foundrank.data.arrow.column_types import LABEL, NUMBER, VECTOR
from foundrank.data.arrow.column_types import LIST_ID as LIST
from foundrank.data.arrow.column_types import SCALAR_ID as ID
from foundrank.data.config.kinds import experiment_type
from foundrank.data.schema.column_needs import needed_columns
from foundrank.model.kinds import KINDS
from tests.tiny_world import experiment_dict


def test_what_each_domain_needs():
    experiment = experiment_type(KINDS).model_validate(experiment_dict())
    needs = {d: {n.name: n.holds for n in needed_columns(experiment, d)} for d in experiment.domains}
    common = {"user": ID, "item": ID, "clicks": NUMBER, "history": LIST, "hour": ID, "click": LABEL, "row": ID}
    search = {"query": ID, "query_vector": VECTOR, "intent": ID}
    own = {"rank": NUMBER, "matched": LIST, "slot": ID, "buy": LABEL, "truth": "probability"}
    assert needs["find"] == common | search | own
    assert needs["home"] == common | {"slot": ID, "picture": VECTOR}
    assert needs["new"] == common | {"like": LABEL}


def test_scoring_needs_no_labels():
    experiment = experiment_type(KINDS).model_validate(experiment_dict())
    scoring = {n.name for n in needed_columns(experiment, "find", with_labels=False)}
    training = {n.name for n in needed_columns(experiment, "find")}
    assert training - scoring == {"click", "buy", "truth", "row"}


def test_scoring_needs_no_features_with_bias():
    raw = experiment_dict()
    raw["context"]["hour"]["bias"] = raw["domains"]["find"]["features"]["rank"]["bias"] = True
    experiment = experiment_type(KINDS).model_validate(raw)
    scoring = {n.name for n in needed_columns(experiment, "find", with_labels=False)}
    training = {n.name for n in needed_columns(experiment, "find")}
    assert training - scoring == {"click", "buy", "truth", "row", "hour", "rank"}


def test_a_need_names_the_field_that_asks():
    experiment = experiment_type(KINDS).model_validate(experiment_dict())
    fields = {n.name: (n.field, n.size) for n in needed_columns(experiment, "find")}
    assert fields["query_vector"] == ("entities.query.text_vector", 2)
    assert fields["clicks"] == ("entities.user.features.clicks", 0)
    assert fields["hour"] == ("context.hour", 0)
    assert fields["matched"] == ("domains.find.features.matched", 0)
    assert fields["buy"] == ("domains.find.tasks.buy.label", 0)
    assert fields["truth"] == ("domains.find.tasks.click.probability", 0)
