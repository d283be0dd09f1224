import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from foundrank.data.config.load import dump_experiment, load_experiment
from foundrank.data.config.locations import locations
from foundrank.data.config.sections.entities import ENTITIES
from foundrank.data.errors import UserError
from foundrank.model.kinds import KINDS
from tests.tiny_world import experiment_dict

EXAMPLES = sorted((Path(__file__).parents[4] / "examples").rglob("*.yaml"))


def write(folder: Path, content: dict[str, Any] | str) -> Path:
    path = folder / "experiment.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False))
    return path


def changed(key: str, value: Any) -> dict[str, Any]:
    """The tiny experiment with the value at a dotted key replaced, or removed if it is None."""
    plain = copy.deepcopy(experiment_dict())
    at = plain
    *parents, last = key.split(".")
    for part in parents:
        at = at.setdefault(part, {})
    if value is None:
        del at[last]
    else:
        at[last] = value
    return plain


def told(folder: Path, content: dict[str, Any] | str, *overrides: str) -> str:
    """The error a bad experiment gives, without the folder's name."""
    with pytest.raises(UserError) as error:
        load_experiment(write(folder, content), overrides, kinds=KINDS)
    return str(error.value).replace(str(folder) + "/", "")


@pytest.mark.parametrize(
    ("key", "where", "near"),
    [
        ("trainin", "trainin", "training"),
        ("training.epoch", "training.epoch", "epochs"),
        ("entities.usr", "entities.usr", "user"),
        ("entities.item.catalog.pth", "entities.item.catalog.pth", "path"),
        ("entities.user.history.colum", "entities.user.history.colum", "column"),
        ("entities.item.features.brand.min_counts", "entities.item.features.brand.min_counts", "min_count"),
        ("domains.find.task", "domains.find.task", "tasks"),
        ("domains.find.features.rank.entty", "domains.find.features.rank.entty", "entity"),
        ("domains.find.tasks.click.lable", "domains.find.tasks.click.lable", "label"),
        ("domains.home.events.tests", "domains.home.events.tests", "test"),
    ],
)
def test_an_unknown_key_gets_the_nearest_one(tmp_path, key, where, near):
    message = told(tmp_path, changed(key, 1))
    # `task` in place of `tasks` leaves nothing required out: `tasks` is still there.
    assert message.startswith(f"experiment.yaml: {where}: unknown key '{key.split('.')[-1]}'")
    assert f"Did you mean '{near}'?" in message


def test_frozen_tables_do_not_decay(tmp_path):
    decay = ("training.table_decay=0.1", "init_from=base")
    assert "would shrink the rows that freeze keeps fixed" in told(
        tmp_path, experiment_dict(), "training.freeze=[L0]", *decay
    )
    load_experiment(write(tmp_path, experiment_dict()), ("training.freeze=[L1]", *decay), kinds=KINDS)


def test_an_unknown_key_under_a_name_that_is_also_a_field(tmp_path):
    content = changed("entities.item.features.size", {"kind": "dense", "colum": "shoe_size"})
    assert "Did you mean 'column'?" in told(tmp_path, content)
    content = changed("domains.kind", {**experiment_dict()["domains"]["new"], "colder": True})
    assert "Did you mean 'cold'?" in told(tmp_path, content)


@pytest.mark.parametrize(
    ("key", "missing"),
    [
        ("name", "name"),
        ("entities", "entities"),
        ("entities.user", "user"),
        ("entities.item.id", "id"),
        ("entities.item.catalog.key", "key"),
        ("domains.find.kind", "kind"),
        ("domains.find.events.train", "train"),
        ("domains.find.tasks.click.label", "label"),
        ("context.hour.kind", "kind"),
    ],
)
def test_a_missing_field_is_named(tmp_path, key, missing):
    assert f"experiment.yaml: {key}: '{missing}' is required and missing" in told(tmp_path, changed(key, None))


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("training.epochs", "many", ["training.epochs", "integer", "'many'"]),
        ("training.epochs", -1, ["training.epochs", "greater than or equal to 0", "(got -1)"]),
        ("training.batch_size", 2.5, ["training.batch_size", "2.5"]),
        ("training.precision", "fp8", ["training.precision", "'fp32' or 'bf16'", "'fp8'"]),
        ("model.embedding_dim", 30, ["model", "embedding_dim is 30", "multiple of 4"]),
        ("model.dropout", 1.0, ["model.dropout", "less than 1"]),
        ("model.aspects", ["id", "image"], ["model.aspects.1", "'image'"]),
        ("domains", {}, ["domains", "at least 1"]),
        ("domains.find.tasks", {}, ["domains.find.tasks", "nothing to learn"]),
        ("domains.two words", {"kind": "search"}, ["domains.two words", "pattern"]),
        ("domains.find.sampling_weight", 0, ["domains.find.sampling_weight", "greater than 0"]),
        ("entities.item.features.image.size", None, ["entities.item.features.image.size", "required and missing"]),
        (
            "entities.item.features.brand.size",
            3,
            ["entities.item.features.brand.size", "has no effect", "choose kind: vector"],
        ),
        ("entities.query.features.intent.source", "catalog", ["entities.query", "'intent'", "no catalog"]),
        ("domains.find.features.slot.source", "catalog", ["domains.find.features.slot", "has source: catalog"]),
        ("context.hour.source", "catalog", ["context.hour", "has source: catalog"]),
        ("context.hour.entity", "user", ["context.hour.entity", "belongs to where it stands"]),
        ("context.hour.transform", "log1p", ["context.hour.transform", "has no effect", "choose kind: dense"]),
        ("entities.item.buckets", 5, ["entities.item.buckets", "has no effect without encoding: hash"]),
        (
            "entities.query.min_count",
            5,
            ["entities.query.min_count", "has no effect without encoding: vocab or managed"],
        ),
    ],
)
def test_a_bad_value_is_named_with_its_place(tmp_path, key, value, words):
    message = told(tmp_path, changed(key, value))
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("item", "words"),
    [
        ({"text": "{title}"}, "give this entity a `catalog`"),
        ({"text": "title"}, "names no column"),
        ({"text": ""}, "names no column"),
        ({"text": "{}"}, "names no column"),
        ({"text": "{title"}, "expected '}'"),
        ({"text": "{title}", "text_vector": {"column": "v", "size": 2}}, "either `text` or `text_vector`"),
        ({"prompt": "item: "}, "`prompt` goes before each `text`"),
    ],
)
def test_template_errors(tmp_path, item, words):
    catalog = {} if words.startswith("give this") else {"catalog": {"path": "items.parquet", "key": "item_id"}}
    message = told(tmp_path, changed("entities.item", {"id": "item", **catalog, **item}))
    assert "experiment.yaml: entities.item: " in message
    assert words in message


def test_search_needs_a_query(tmp_path):
    message = told(tmp_path, changed("entities.query", None))
    assert message.startswith("experiment.yaml: domains.find.kind: is 'search', but entities.query is missing")
    content = changed("entities.query", None)
    del content["domains"]["find"]
    content["domains"]["home"]["features"]["slot"]["entity"] = "query"
    assert "domains.home.features.slot: belongs to the query" in told(tmp_path, content)
    del content["domains"]["home"]["features"]["slot"]["entity"]
    assert load_experiment(write(tmp_path, content), kinds=KINDS).entities.query is None


@pytest.mark.parametrize(
    ("place", "changes", "words"),
    [
        ("entities.item.features.brand", {}, "is true, but the feature belongs to the item"),
        ("domains.find.features.matched", {}, "is true, but the feature belongs to the item"),
        (
            "context.hour",
            {"model": {"history": "sasrec", "next_item": {}}, "tasks": None},
            "has no effect without a task",
        ),
    ],
)
def test_a_bias_is_of_an_event_with_a_label(tmp_path, place, changes, words):
    content = changed(f"{place}.bias", True) | changes
    if "tasks" in content:
        for domain in content["domains"].values():
            domain["tasks"] = content["tasks"] or {}
        del content["tasks"]
    assert told(tmp_path, content).startswith(f"experiment.yaml: {place}.bias: {words}")


@pytest.mark.parametrize(
    ("key", "value", "other"),
    [
        ("context.brand", {"kind": "categorical"}, "entities.item.features"),
        ("entities.user.features.brand", {"kind": "categorical"}, "entities.user.features"),
        ("domains.home.features.hour", {"kind": "categorical"}, "context"),
        ("domains.home.features.rank", {"kind": "categorical"}, "domains.find.features"),
        ("domains.home.features.slot", {"kind": "categorical", "entity": "user"}, "domains.find.features"),
        ("domains.home.features.slot", {"kind": "categorical", "encoding": "hash"}, "domains.find.features"),
    ],
)
def test_a_feature_name_means_one_thing(tmp_path, key, value, other):
    assert f"the name is already used in {other} for another feature" in told(tmp_path, changed(key, value))


def test_domains_may_share_a_feature(tmp_path):
    shared = changed("domains.new.features", {"slot": {"kind": "categorical", "column": "place"}})
    assert load_experiment(write(tmp_path, shared), kinds=KINDS).domains["new"].features["slot"].column == "place"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name: a\nseed: 1\nname: b\n", ["key 'name' is written twice", "line 3"]),
        ("domains:\n  a: {kind: search, kind: search}\n", ["key 'kind' is written twice", "line 2"]),
        ("name: [1\n", ["not valid YAML"]),
        ("text: {{title}}\n", ["not valid YAML", "unhashable"]),
        ("- name\n", ["holds no mapping"]),
        ("", ["holds no mapping"]),
    ],
)
def test_bad_yaml(tmp_path, text, words):
    message = told(tmp_path, text)
    for word in words:
        assert word in message


def test_merge_keys_may_be_overridden(tmp_path):
    plain = experiment_dict()
    text = yaml.safe_dump({k: v for k, v in plain.items() if k != "domains"})
    text += """
domains:
  one: &one
    kind: recommendation
    events: {train: one/*.parquet}
    tasks: {click: &click {label: click, weight: 2.0}}
  two:
    <<: *one
    events: {train: two/*.parquet}
    tasks: {click: {<<: *click, weight: 3.0}}
"""
    domains = load_experiment(write(tmp_path, text), kinds=KINDS).domains
    assert domains["two"].kind == "recommendation"
    assert domains["two"].events.train.endswith("two/*.parquet")
    assert domains["two"].tasks["click"].label.column == "click"
    assert [d.tasks["click"].weight for d in domains.values()] == [2.0, 3.0]


def test_missing_files(tmp_path):
    with pytest.raises(UserError, match="no such experiment file"):
        load_experiment(tmp_path / "other.yaml", kinds=KINDS)
    with pytest.raises(UserError, match="no such experiment file"):
        load_experiment(tmp_path, kinds=KINDS)
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(UserError, match="not valid YAML"):
        load_experiment(tmp_path / "binary.yaml", kinds=KINDS)


def test_overrides(tmp_path):
    path = write(tmp_path, experiment_dict())
    experiment = load_experiment(
        path,
        [
            "training.epochs=7",
            "training.learning_rate=1e-2",
            "name=other",
            "model.aspects=[id, sparse]",
            "domains.home.sampling_weight=2",
            "domains.find.tasks.click.probability=null",
            "text.encoder=some/model=1",
            "training.epochs=9",
        ],
        kinds=KINDS,
    )
    assert experiment.training.epochs == 9
    assert experiment.training.learning_rate == 0.01
    assert experiment.training.batch_size == 8
    assert experiment.name == "other"
    assert experiment.model.aspects == ("id", "sparse")
    assert experiment.domains["home"].sampling_weight == 2.0
    assert experiment.domains["find"].tasks["click"].probability is None
    assert experiment.text.encoder == "some/model=1"


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("training.epochs", "is not key=value"),
        ("=3", "is not key=value"),
        ("training.epoch=3", "Did you mean 'epochs'?"),
        ("trainng.epochs=3", "Did you mean 'training'?"),
        ("training.epochs=three", "'three'"),
        ("name.first=a", "'name' is a value, not a section"),
        ("training.epochs.x=a", "training.epochs"),
        ("model.aspects=[id", "not valid YAML"),
    ],
)
def test_bad_overrides(tmp_path, override, words):
    assert words in told(tmp_path, experiment_dict(), override)


def test_an_override_changes_one_place_of_what_an_alias_names(tmp_path):
    plain = experiment_dict()
    plain["domains"]["home"]["tasks"] = plain["domains"]["new"]["tasks"] = {"click": {"label": "click"}}
    path = write(tmp_path, plain)
    assert "&id001" in path.read_text()
    domains = load_experiment(path, ["domains.home.tasks.click.weight=3"], kinds=KINDS).domains
    assert [domains[name].tasks["click"].weight for name in ("home", "new")] == [3.0, 1.0]


def test_paths_come_back_absolute(tmp_path, monkeypatch):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "llm").mkdir()
    content = changed("text.encoder", "llm")
    content["domains"]["home"]["events"]["train"] = str(tmp_path / "elsewhere" / "*.parquet")
    content["domains"]["new"]["events"]["train"] = "~/new.parquet"
    write(tmp_path / "sub", content)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    experiment = load_experiment("sub", kinds=KINDS)  # relative, and a folder
    root = tmp_path / "sub"
    catalog = experiment.entities.item.catalog
    assert catalog is not None
    assert catalog.path == str(root / "items.parquet")
    assert experiment.domains["find"].events.train == str(root / "find/*.parquet")
    assert experiment.domains["find"].events.test == str(root / "find/*.parquet")
    assert experiment.domains["find"].events.validation is None
    assert experiment.domains["home"].events.train == str(tmp_path / "elsewhere/*.parquet")
    assert experiment.domains["new"].events.train == str(tmp_path / "home/new.parquet")
    assert experiment.text.store == str(root / "store")
    assert experiment.text.encoder == str(root / "llm")
    assert load_experiment(root, ["text.encoder=minilm"], kinds=KINDS).text.encoder == "minilm"


def test_pictures_have_a_folder_and_an_encoder_of_their_own(tmp_path):
    (tmp_path / "vit").mkdir()
    picture = {"image": "{path}", "folder": "pictures", "encoder": "vit"}
    content = changed(
        "entities.item.contents", {"picture": picture, "front": {"image": "{path}", "encoder": "a/hub-id"}}
    )
    at = "entities.item.contents.picture"
    found = load_experiment(write(tmp_path, content), kinds=KINDS)
    contents = found.entities.item.contents
    assert (contents["picture"].folder, contents["picture"].encoder) == (f"{tmp_path}/pictures", f"{tmp_path}/vit")
    assert (contents["front"].folder, contents["front"].encoder) == (str(tmp_path), "a/hub-id")
    assert load_experiment(yaml.safe_load(dump_experiment(found)), kinds=KINDS) == found
    assert set(locations(found)) >= {f"{tmp_path}/pictures", str(tmp_path)}
    random = load_experiment(write(tmp_path, content), [f"{at}.vectors=random"], kinds=KINDS)
    assert random.entities.item.contents["picture"].encoder is None
    assert "picture" in random.model.aspects
    none = load_experiment(write(tmp_path, content), [f"{at}.vectors=none"], kinds=KINDS)
    assert "picture" not in none.model.aspects
    face = "entities.user.contents.picture={image: '{path}', encoder: a/hub-id}"
    another = load_experiment(write(tmp_path, content), [f"{at}.vectors=none", face], kinds=KINDS)
    assert "picture" in another.model.aspects  # the user's
    assert [of.entity for of in another.stores_read() if of.content == "picture"] == ["user"]
    assert "Did you mean 'encoder'?" in told(tmp_path, changed(at, {"image": "{path}", "encodr": "vit"}))
    assert "name the `encoder`" in told(tmp_path, changed(at, {"image": "{path}"}))
    assert "names no column" in told(tmp_path, changed(at, {"image": "a.jpg", "encoder": "vit"}))
    unused = told(tmp_path, changed(at, picture | {"vectors": "random"}))
    assert f"{at}.encoder" in unused
    assert "vectors: vision" in unused


@settings(max_examples=30)
@given(
    st.sampled_from(["mean", "mean_gate", "cls_gate", "domain_gate"]),
    st.floats(1e-6, 1, exclude_min=True),
    st.integers(1, 10**9),
    st.sampled_from(["{title}", "{brand}: {title} – ü", "#{title}", "'{title}'", "yes {title}\n"]),
)
def test_a_dumped_experiment_loads_equal(tmp_path_factory, gate, rate, rows, template):
    folder = tmp_path_factory.mktemp("dump")
    content = changed("entities.item.text", template)
    content |= {"model": {"gate": gate}, "training": {"learning_rate": rate, "shuffle_rows": rows}}
    experiment = load_experiment(write(folder, content), kinds=KINDS)
    other = tmp_path_factory.mktemp("other")
    assert load_experiment(write(other, dump_experiment(experiment)), kinds=KINDS) == experiment


@pytest.mark.skipif(not EXAMPLES, reason="no examples are shipped")
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_every_shipped_example_loads(path, tmp_path):
    experiment = load_experiment(path, kinds=KINDS)
    (tmp_path / "again.yaml").write_text(dump_experiment(experiment))
    assert load_experiment(tmp_path / "again.yaml", kinds=KINDS) == experiment
    assert set(experiment.entities.present()) <= set(ENTITIES)


def test_several_overrides_in_one_string(tmp_path):
    # TorchX takes an option once only.
    path = tmp_path / "experiment.yaml"
    path.write_text(yaml.safe_dump(experiment_dict()))
    loaded = load_experiment(path, ["training.epochs=7; model.aspects=[id, sparse]"], kinds=KINDS)
    assert loaded.training.epochs == 7
    assert loaded.model.aspects == ("id", "sparse")


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("training.learning_rate=.inf", "finite number"),
        ("training.learning_rate='nan'", "finite number"),
        ("domains.new.sampling_weight=1e999", "finite number"),
        ("training.epochs=true", "not true or false"),
        ("training.max_steps=yes", "not true or false"),
        (f"training.batch_size={10**30}", "less than or equal to"),
        (f"seed={2**70}", "less than"),
        ("seed=0x" + "f" * 5000, "a number of more than 60 digits"),
        ("name=no", "write it in quotes"),
        ("name=2026-01-01", "write it in quotes"),
        ("name=2026-02-30", "not valid YAML"),
        ('name="a\\0b"', "a character that no file's name or text has"),
        (".".join("a" * 5000) + "=1", "has more than 32 parts"),
        ("text.store=s3://key:sec/ret@bucket/x", "holds credentials"),
        ("text.store=S3://key:secret@bucket/x", "holds credentials"),
        ("text.store=s3:/bucket/x", "is no URI"),
    ],
)
def test_values_that_no_setting_has(tmp_path, override, words):
    message = told(tmp_path, experiment_dict(), override)
    assert words in message
    assert "secret" not in message
    assert "ret@" not in message


def test_semicolons_in_values(tmp_path):
    path = write(tmp_path, experiment_dict())
    quoted = load_experiment(
        path, ["""entities.user.prompt=; entities.item.prompt='it''s; "x"'; seed=3;; """], kinds=KINDS
    )
    assert (quoted.entities.item.prompt, quoted.seed) == ('it\'s; "x"', 3)
    assert load_experiment(path, ['entities.item.prompt="a\\"; b";seed=4'], kinds=KINDS).seed == 4


def with_pattern(folder: Path, *files: str, **changes: Any) -> dict[str, Any]:
    content = {**experiment_dict(), "events": "logs/{domain}/{split}/*.parquet", **changes}
    for name in ("find", "home"):
        del content["domains"][name]["events"]
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).touch()
    return content


def test_one_pattern_names_the_events_of_domains(tmp_path):
    files = (
        "logs/find/train/a.parquet",
        "logs/find/test/a.parquet",
        "logs/home/train/a.parquet",
        "logs/new/train/a.parquet",
    )
    experiment = load_experiment(write(tmp_path, with_pattern(tmp_path, *files)), kinds=KINDS)
    events = {name: domain.events.model_dump(exclude_none=True) for name, domain in experiment.domains.items()}
    assert events == {
        "find": {split: f"{tmp_path}/logs/find/{split}/*.parquet" for split in ("train", "test")},
        "home": {"train": f"{tmp_path}/logs/home/train/*.parquet"},
        "new": {"train": f"{tmp_path}/new/*.parquet"},  # it names its own
    }
    (tmp_path / "again.yaml").write_text(dump_experiment(experiment))
    assert load_experiment(tmp_path / "again.yaml", kinds=KINDS) == experiment


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "experiment.yaml: events: names no training events of domain 'home': no file matches 'logs/home/train/*.parquet'"),
        ({"events": "logs/{domain}/*.parquet"}, "experiment.yaml: events: 'logs/{domain}/*.parquet' lacks {domain} or {split}"),
        ({"events": 3}, "experiment.yaml: events: Input should be a valid string"),
        ({"events": None}, "experiment.yaml: domains.find.events: 'events' is required and missing"),
    ],
)  # fmt: skip
def test_a_pattern_that_names_too_little_is_told(tmp_path, changes, message):
    content = with_pattern(tmp_path, "logs/find/train/a.parquet", **changes)
    if changes == {"events": 3}:
        content["domains"] = experiment_dict()["domains"]
    assert told(tmp_path, content).startswith(message)
    if not changes:  # a domain that is not in use need not have any
        assert set(load_experiment(write(tmp_path, content), ["only=[find]"], kinds=KINDS).domains) == {"find"}


def test_sets_with_semicolons_in_lists_and_mappings(tmp_path):
    path = write(tmp_path, experiment_dict())
    assert (
        load_experiment(
            path, ["entities.item={id: item, catalog: {path: 'a;b.parquet', key: k}}; seed=4"], kinds=KINDS
        ).seed
        == 4
    )
    loaded = load_experiment(path, ["""only=["find", 'home']; entities.item.prompt="a;b"; seed=5"""], kinds=KINDS)
    assert (list(loaded.domains), loaded.entities.item.prompt, loaded.seed) == (["find", "home"], "a;b", 5)
