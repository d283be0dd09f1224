"""Settings that change nothing are refused: every setting is in the table, or it always changes something."""

import json
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from foundrank.data.config import old_keys
from foundrank.data.config.experiment import Experiment
from foundrank.data.config.kinds import experiment_type, seam_of
from foundrank.data.config.load import dump_experiment, load_experiment
from foundrank.data.config.load import plain as plain_dict
from foundrank.data.config.places import at_key, keys_of, present
from foundrank.data.errors import UserError
from foundrank.model.kinds import KINDS
from tests.tiny_world import experiment_dict

SASREC = {"model.history.encoder": "sasrec", "model.next_item": {}}
NO_TEXT = {"entities.item.text": None}
AS_IT_IS = {"init_from": "runs/shop", "training.epochs": 0}
CODED = SASREC | {"entities.item.contents": {"codes": {"codes": "rq_kmeans"}}, "model.next_item.target": "codes"}
ALIGNED = {"model.history.encoder": "sasrec", "model.next_item": {"loss": "softmax", "preference": {}}}
NO_TASKS = SASREC | {f"domains.{name}.tasks": None for name in ("find", "home", "new")}
GATELESS = {"model.gate": "none"}
GIVEN = NO_TEXT | {"entities.item.contents": {"picture": {"vector": "seen", "size": 4}}}
NO_VECTORS, RANDOM = {"text.vectors": "none"}, {"text.vectors": "random"}
OF_ENCODER = {
    "encoder": "minilm", "revision": "main", "max_length": 9, "pooling": "cls", "normalize": True, "dimension": 4,
    "reduction": "pca", "precision": "fp32", "batch_tokens": 99, "trust_remote_code": True,
}  # fmt: skip
_MASKED = "history.encoder: bert4rec and positions: all"
FINE = {
    "revision": {"text.encoder": "some/encoder"},
    "trust_remote_code": {"text.encoder": "./mine"},
    "reduction": {"text.dimension": 4},
}
NUMBER = {"domains.new.tasks.like.kind": "regression"}
VALIDATED = {"domains.home.events.validation": "v/*.parquet"}

# Key, its value, what makes it useless, what it needs as the error says it, and what makes it useful.
USELESS: list[tuple[str, Any, dict[str, Any], str, dict[str, Any]]] = [
    *((f"text.{key}", value, NO_VECTORS, "vectors: llm", FINE.get(key, {})) for key, value in OF_ENCODER.items()),
    *((f"text.{key}", OF_ENCODER[key], RANDOM, "vectors: llm", FINE.get(key, {})) for key in OF_ENCODER if key != "dimension"),
    *((f"text.{key}", value, NO_TEXT, "an entity with a `text`", FINE.get(key, {})) for key, value in OF_ENCODER.items()),
    ("text.reduction", "pca", {}, "a dimension", {"text.dimension": 4}),
    ("text.revision", "main", {"text.encoder": "minilm"}, "an encoder from a hub", {"text.encoder": "some/encoder"}),
    ("text.revision", "main", {"text.encoder": "./mine"}, "an encoder from a hub", {"text.encoder": "some/encoder"}),
    ("text.trust_remote_code", True, {}, "another encoder", {"text.encoder": "./mine"}),
    ("entities.item.prompt", "item: ", NO_VECTORS, "text.vectors: llm", {}),
    ("entities.item.prompt", "item: ", RANDOM, "text.vectors: llm", {}),
    ("entities.user.history.time", "at", {}, "times", {"entities.user.history.times": "when"}),
    ("model.alignment_weight", 0.1, {"model.alignment": "none"}, "alignment: js or mmd", {"model.alignment": "mmd"}),
    ("model.id_from_text", 0.1, {"model.aspects": ["id", "sparse"]}, "the aspect id and a content", {"model.aspects": ["id", "text"]}),
    ("model.bias_dropout", 0.2, {}, "a feature with bias: true", {"context.hour.bias": True}),
    ("model.id_dropout", 0.1, {"model.aspects": ["id"]}, "the aspect id and another", {"model.aspects": ["id", "text"]}),
    ("model.id_dropout", 0.1, {"model.aspects": ["text", "sparse"]}, "the aspect id and another", {}),
    ("model.id_dropout", 0.1, GATELESS, "another gate than none", {"model.gate": "mean"}),
    *((f"model.{key}", value, {"model.aspects": aspects}, "the aspect id and another", {"model.aspects": ["id", "sparse"]})
      for key, value in (("hide_rare_items", 1.0), ("unknown_id", "masked")) for aspects in (["id"], ["text", "sparse"])),
    ("model.hide_rare_items", 1.0, GATELESS, "another gate than none", {"model.gate": "mean"}),
    ("model.unknown_id", "masked", GATELESS, "another gate than none", {"model.gate": "mean"}),
    ("model.id_from_text", 0.1, GATELESS, "another gate than none", {"model.gate": "mean"}),
    ("model.interaction", True, GATELESS, "another gate than none", {"model.gate": "mean"}),
    ("model.content_conditioning", "center", NO_TEXT, "a content of a catalog", {}),
    ("model.content_conditioning", "center", NO_VECTORS, "a content of a catalog", {}),
    ("model.content_conditioning", "center", {"model.aspects": ["id", "sparse"]}, "a content of a catalog", {}),
    ("model.content_conditioning", "center", GIVEN | {"model.aspects": ["id", "sparse"]}, "a content of a catalog",
     GIVEN | GATELESS | {"model.aspects": ["id", "sparse"]}),  # side by side it is taken, whatever its aspect
    *((f"model.{key}", value, NO_TASKS, "a task", SASREC) for key, value in {
        "head": "ple", "shared_head": True, "domain_width": 8, "interaction": False, "id_from_text": 0.1, "alignment": "mmd",
        "alignment_weight": 0.1, "rates": True,
    }.items()),
    *(("model.similarity", {}, useless, "a history, and a content of items that does not come with the events", {})
      for useless in ({"entities.user.history": None}, NO_TEXT, NO_VECTORS, {"model.aspects": ["id", "sparse"]})),
    ("model.similarity", {}, NO_TASKS, "a task", SASREC),
    ("training.level_rates.L2", 0.1, NO_TASKS, "a task", SASREC),
    ("training.level_rates.L3", 0.1, NO_TASKS, "a task", SASREC),
    ("model.next_item.candidates", "domain", SASREC | {"only": ["find"]}, "two domains with users", SASREC),
    ("model.next_item.candidates", "domain", SASREC | {"domains.find.users": False, "domains.new.users": False},
     "two domains with users", SASREC | {"domains.find.users": False}),
    ("model.next_item.negatives", 9, SASREC | {"model.next_item.loss": "softmax"}, "loss: sampled_softmax or gbce", SASREC),
    ("model.next_item.in_batch", 9, SASREC | {"model.next_item.loss": "softmax"}, "loss: sampled_softmax or gbce", SASREC),
    ("model.next_item.label_smoothing", 0.1, SASREC, "loss: softmax", SASREC | {"model.next_item.loss": "softmax"}),
    ("model.next_item.calibration", 0.5, SASREC, "loss: gbce", SASREC | {"model.next_item.loss": "gbce"}),
    ("model.next_item.decoder", "autoregressive", SASREC, "target: codes", CODED),
    ("model.next_item.loss", "sampled_softmax", CODED, "target: item", SASREC),
    ("model.next_item.negatives", 9, CODED, "target: item", SASREC),
    ("model.next_item.in_batch", 9, CODED | {"model.next_item.decoder": "autoregressive"}, "decoder: parallel, where target is codes", CODED),
    ("model.next_item.calibration", 0.5, CODED, "target: item", SASREC | {"model.next_item.loss": "gbce"}),
    ("model.next_item.widths", [8, 64], CODED, "target: item", SASREC | {"model.width": 64}),
    ("model.next_item.mask_share", 0.5, SASREC | {"model.next_item.positions": "all"}, _MASKED,
     {"model.history.encoder": "bert4rec", "model.next_item.positions": "all"}),
    ("model.next_item.mask_share", 0.5, SASREC | {"model.history.encoder": "bert4rec"}, _MASKED,
     {"model.history.encoder": "bert4rec", "model.next_item.positions": "all"}),
    *((f"model.next_item.preference.{key}", value, ALIGNED | {"model.next_item.preference.loss": loss}, need, ALIGNED | useful)
      for key, value, loss, need, useful in (
          ("beta", 0.5, "grpo", "loss: dpo or softmax_dpo", {"model.next_item.preference.loss": "softmax_dpo"}),
          *((key, 0.5, "dpo", "loss: grpo", {"model.next_item.preference.loss": "grpo"}) for key in ("clip", "early_clip", "kl")),
      )),
    ("domains.home.weighted_metrics", True, {}, "sample_weight", {"domains.home.sample_weight": "w"}),
    ("domains.home.sample_weight", "w", NO_TASKS, "a task", SASREC),
    ("domains.new.tasks.like.focal_gamma", 1.0, {}, "loss: focal", {"domains.new.tasks.like.loss": "focal"}),
    *(("domains.new.tasks.like." + key, 0.9, NUMBER, f"loss: {loss}", NUMBER | {"domains.new.tasks.like.loss": loss})
      for key, loss in (("delta", "huber"), ("quantile", "quantile"))),
    ("init_optimizer", True, {}, "init_from, and training.epochs: 1 or more", {"init_from": "runs/shop"}),
    ("init_optimizer", True, AS_IT_IS, "init_from, and training.epochs: 1 or more", {"init_from": "runs/shop"}),
    ("entities.item.expire_after", 9, {"entities.item.encoding": "managed"}, "a domain with a `time`",
     {"entities.item.encoding": "managed", "domains.home.time": "at"}),
    ("training.keep_best", True, {}, "a domain with events.validation", VALIDATED),
    *((f"training.{key}", value, AS_IT_IS, "epochs: 1 or more", {}) for key, value in {
        "max_steps": 9, "learning_rate": 0.1, "optimizer": "sgd", "sparse_learning_rate": 0.1, "table_decay": 0.1, "schedule": "cosine",
        "gradient_clip": 2.0, "shuffle_rows": 9, "checkpoint_every": 9, "log_every": 9,
    }.items()),
    *((f"training.{key}", 9, {}, "a domain with events.validation", VALIDATED) for key in ("validate_every", "patience")),
    *((f"training.{key}", 9, VALIDATED | {"training.keep_best": False}, "training.keep_best: true", VALIDATED)
      for key in ("validate_every", "patience")),
]  # fmt: skip

# What describes the data may stay unused, and these change something whatever the others are.
ALWAYS = {
    "": "name seed seeds init_from only entities context events domains bad_data text model training",
    "bad_data": "policy max_share",  # max_share too: `foundrank score --bad-data skip` heeds it whatever the policy
    "text": "vectors store",
    "model": "aspects embedding_dim width gate history next_item",
    "model.similarity": "bins top",
    "model.next_item": "target weight positions repeat preference",
    "model.next_item.preference": "loss nll",
    "training": "epochs batch_size freeze level_rates sparse_optimizer precision compile table_precision sharding prefetch_batches "
    "stall_seconds keep_checkpoints",
    "training.level_rates": "L0 L1",
    "entities.item": "prompt",
}


def changed(*changes: dict[str, Any], of: dict[str, Any] | None = None) -> dict[str, Any]:
    """An experiment, the tiny one by default, with values at dotted keys; None removes one."""
    plain = experiment_dict() if of is None else of
    for key, value in {key: value for change in changes for key, value in change.items()}.items():
        at: Any = plain
        *parents, last = key.split(".")
        for part in parents:
            at = at.setdefault(part, {})
        if value is None:
            at.pop(last, None)
        else:
            at[last] = deepcopy(value)
    return plain


def loaded(folder: Path, content: dict[str, Any], *overrides: str) -> Experiment:
    path = folder / "experiment.yaml"
    path.write_text(json.dumps(content))  # which YAML is, and quicker
    return load_experiment(path, overrides, kinds=KINDS)


def _ids(case) -> str:
    return f"{case[0]} without {case[3]}"


@pytest.mark.parametrize("case", USELESS, ids=_ids)
def test_what_has_no_effect_is_refused(tmp_path, case):
    key, value, useless, need, useful = case
    told = f"experiment.yaml: {key}: has no effect without {need}. Remove it, or change that."
    with pytest.raises(UserError) as error:
        loaded(tmp_path, changed(useless, {key: value}))
    assert str(error.value).replace(f"{tmp_path}/", "") == told
    # So it is where only --set says it. But where --set makes it so, the file's is left out.
    with pytest.raises(UserError) as error:
        loaded(tmp_path, changed(useless), f"{key}={json.dumps(value)}")
    assert str(error.value).replace(f"{tmp_path}/", "") == told
    plain = loaded(tmp_path, changed(useless))
    (tmp_path / "again.yaml").write_text(dump_experiment(plain))
    assert load_experiment(tmp_path / "again.yaml", kinds=KINDS) == plain
    loaded(tmp_path, changed(useful, {key: value}))
    (tmp_path / "vocabulary").mkdir()
    (tmp_path / "vocabulary" / "statistics.json").touch()
    # A run's file has every key with an effect, and older versions wrote the others too.
    assert loaded(tmp_path, changed({key: value}, of=plain_dict(plain))) == plain


@pytest.mark.parametrize(
    ("encoder", "key"), [("mean", "layers"), ("din", "heads"), ("sasrec", "decoupled"), ("bert4rec", "reasoning")]
)
def test_what_another_history_encoder_has_is_refused(tmp_path, encoder, key):
    with pytest.raises(UserError, match=rf"model.history.{key}: has no effect: encoder: {encoder} has no such"):
        loaded(tmp_path, changed({"model.history": {"encoder": encoder, key: 1}}))


def test_tasks_of_steps_that_find_nothing_or_that_no_domain_has_are_refused(tmp_path):
    reasoning = {"model.history": {"encoder": "sasrec", "reasoning": {"steps": 1, "tasks": ["like"]}}}
    with pytest.raises(UserError, match=r"model.history.reasoning.tasks: has no effect without next_item"):
        loaded(tmp_path, changed(reasoning))
    loaded(tmp_path, changed(reasoning, {"model.next_item": {}}))
    reasoning["model.history"]["reasoning"]["tasks"] = ["liek"]
    with pytest.raises(UserError, match=r"reasoning.tasks: no domain has a task 'liek'; there are .*like"):
        loaded(tmp_path, changed(reasoning, {"model.next_item": {}}))


def test_a_set_leaves_out_what_it_makes_useless(tmp_path):
    content = changed({"model.alignment_weight": 0.5, "text.encoder": "some/encoder", "text.revision": "v2"})
    experiment = loaded(tmp_path, content, "model.alignment=none; text.vectors=none")
    assert experiment == loaded(tmp_path, changed({"model.alignment": "none", "text.vectors": "none"}))
    with pytest.raises(UserError, match=r"model.alignment_weight: has no effect"):
        loaded(tmp_path, content, "model.alignment=none; model.alignment_weight=0.1")
    with pytest.raises(UserError, match=r"model.alignment_weight: has no effect"):
        loaded(tmp_path, content, "model={alignment: none, alignment_weight: 0.1}")
    content["model"]["alignment"] = "none"  # useless in the file alone
    with pytest.raises(UserError, match=r"model.alignment_weight: has no effect"):
        loaded(tmp_path, content, "seed=3")


def test_what_has_no_effect_is_refused_where_one_pattern_names_the_events(tmp_path):
    content = changed({"model.content_conditioning": "none", "events": "logs/{domain}/{split}/*.parquet"}, NO_TEXT)
    for name, domain in content["domains"].items():
        del domain["events"]
        (tmp_path / "logs" / name / "train").mkdir(parents=True)
        (tmp_path / "logs" / name / "train" / "a.parquet").touch()
    with pytest.raises(UserError, match=r"model.content_conditioning: has no effect without a content of a catalog"):
        loaded(tmp_path, content)
    del content["model"]["content_conditioning"]
    loaded(tmp_path, content, "seed=3")


def _settings(annotation: Any, at: str = "") -> Iterator[str]:
    """Every setting of a section that is not one of several kinds: what a kind has no use for, its class does not have."""
    for key in keys_of(annotation):
        inner = present(at_key(annotation, key))
        yield f"{at}{key}"
        if seam_of(inner) is None:
            yield from _settings(inner, f"{at}{key}.")


def test_every_setting_is_in_the_table_or_always_has_an_effect():
    known = {f"{section}.{key}".lstrip(".") for section, keys in ALWAYS.items() for key in keys.split()}
    known |= {key for key, *_ in USELESS}
    of_data = ("entities.", "domains.", "context.")  # what describes it may stay unused
    found = {key for key in _settings(experiment_type(KINDS)) if not key.startswith(of_data)}
    assert not found - known
    assert {key for key in known if not key.startswith(of_data)} <= found


def test_what_a_run_of_an_older_version_lacks_is_as_it_was_then(tmp_path, monkeypatch):
    monkeypatch.setattr(old_keys, "BEFORE", {"model.id_dropout": 0.25})
    content = changed({"model.id_dropout": None})
    today = loaded(tmp_path, content)
    assert today.model.id_dropout == 0.1
    (tmp_path / "vocabulary").mkdir()
    (tmp_path / "vocabulary" / "statistics.json").touch()
    then = loaded(tmp_path, content)
    assert then.model == today.model.model_copy(update={"id_dropout": 0.25})
    assert loaded(tmp_path, plain_dict(today)) == today  # a run of today says it
    assert (
        loaded(tmp_path, content, "model.aspects=[id]").model.id_dropout == 0.1
    )  # where it has no effect, neither does


def test_an_older_run_of_contents_side_by_side_is_not_conditioned(tmp_path):
    content = changed(GIVEN, GATELESS, {"model.aspects": ["id", "sparse"]})
    assert loaded(tmp_path, content).model.content_conditioning == "whiten"
    (tmp_path / "vocabulary").mkdir()
    (tmp_path / "vocabulary" / "statistics.json").touch()
    assert loaded(tmp_path, content).model.content_conditioning == "none"
