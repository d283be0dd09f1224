import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from foundrank.data.config.kinds import experiment_type
from foundrank.data.config.sections.entities import Stored
from foundrank.data.contents.content_store import check_store, open_store
from foundrank.data.errors import UserError
from foundrank.dist.embed.embed import embed
from foundrank.dist.embed.store_check import check_store_place
from foundrank.model.contents import ENCODERS
from foundrank.model.contents.content_encoder import Encoded
from foundrank.model.contents.text_encoder_files import StatedSettings
from foundrank.model.kinds import KINDS
from tests.tiny_encoder import write_llama

from .embed_job import ALONE, make_experiment, many, run, vectors_of, write_items


def test_each_key_with_text_gets_its_vector_and_equal_texts_are_encoded_once(tmp_path, encoder):
    write_items(tmp_path)
    experiment = make_experiment(tmp_path)
    folder, said = run(experiment)
    assert folder == tmp_path / "store" / "item"
    store = open_store(folder)
    check_store(store, experiment, Stored("item", "text"))
    assert vectors_of(store) == {"a": [2, 1, 0, 0], "c": [3, 1, 0, 0], "d": [2, 1, 0, 0]}  # b is without text: absent
    assert encoder.texts == ["xx", "yyy"]
    assert store.manifest["made_with"]["weights_sha256"] == "w"
    assert store.manifest["model"] == {"id": "minilm", "revision": None}
    assert "2 distinct texts of 3 rows" in said
    assert "mean cosine of two texts: " in said


def test_each_content_has_its_own_store_and_only_what_is_new_is_embedded(tmp_path, encoder):
    write_items(tmp_path)
    raw = make_experiment(tmp_path).model_dump(mode="json", exclude_none=True)
    raw["entities"]["item"]["contents"] = {
        "key": {"text": "{asin}", "prompt": "key: "},
        "seen": {"vector": "v", "size": 2},
    }
    experiment = experiment_type(KINDS).model_validate(raw)
    folders = embed(experiment, ALONE)
    assert folders == {name: tmp_path / "store" / name for name in ("item", "item_key")}
    assert vectors_of(open_store(folders["item_key"])) == {key: [6, 1, 0, 0] for key in "abcd"}
    assert vectors_of(open_store(folders["item"])) == {"a": [2, 1, 0, 0], "c": [3, 1, 0, 0], "d": [2, 1, 0, 0]}
    for of in experiment.stored():
        check_store(open_store(folders[of.name]), experiment, of)
    with pytest.raises(UserError, match=r"another experiment .template: '{asin}' there, '{title}' here"):
        check_store(open_store(folders["item_key"]), experiment, Stored("item", "text"))
    before = len(encoder.calls)
    raw["entities"]["item"]["contents"]["both"] = {"text": "{asin} {title}"}
    embed(experiment_type(KINDS).model_validate(raw), ALONE)
    assert [sorted(call) for call in encoder.calls[before:]] == [["a xx", "b", "c yyy", "d xx"]]


def test_shards_and_files_keep_their_order(tmp_path, encoder, small_shards):
    keys, titles = many(100)
    for at in range(0, 100, 30):
        write_items(tmp_path, keys[at : at + 30], titles[at : at + 30], f"items{at:02d}.parquet")
    store = open_store(run(make_experiment(tmp_path))[0])
    assert [len(call) for call in encoder.calls] == [8] * 12 + [4]
    assert vectors_of(store) == {key: [len(title), 1, 0, 0] for key, title in zip(keys, titles, strict=True)}


def test_texts_of_a_shard_are_of_similar_length(tmp_path, encoder, small_shards):
    keys, titles = many(100)
    write_items(tmp_path, keys, titles)
    run(make_experiment(tmp_path))
    assert max(max(map(len, call)) - min(map(len, call)) for call in encoder.calls) <= 4


def test_a_prompt_is_put_before_each_text(tmp_path, encoder):
    write_items(tmp_path)
    folder, _ = run(make_experiment(tmp_path, prompt="item: "))
    assert encoder.texts == ["item: xx", "item: yyy"]
    assert open_store(folder).manifest["made_with"]["prompt"] == "item: "
    encoder.stated = StatedSettings(prompts={"document": "doc: ", "query": "q: "})
    run(make_experiment(tmp_path, store=str(tmp_path / "stated")))
    assert encoder.texts[0] == "doc: xx"


def test_texts_that_were_cut_are_counted(tmp_path, encoder):
    write_items(tmp_path, ["a", "b", "c"], ["x" * 51, "y", "z" * 90])
    _, said = run(make_experiment(tmp_path))
    assert "2 texts were cut after 50 tokens (text.max_length)" in said


def test_the_first_values_are_kept_and_scaled_again(tmp_path, encoder):
    encoder.normalize = True
    write_items(tmp_path)
    store = open_store(run(make_experiment(tmp_path, dimension=2))[0])
    assert store.size == 2
    expected = np.array([3.0, 1.0]) / np.sqrt(10)
    np.testing.assert_allclose(vectors_of(store)["c"], expected, atol=1e-3)


def test_pca_keeps_what_varies_and_is_kept_for_what_comes_later(tmp_path, encoder, small_shards):
    keys, titles = many(40)
    write_items(tmp_path, keys, titles)
    experiment = make_experiment(tmp_path, dimension=1, reduction="pca")
    folder, _ = run(experiment)
    lengths = np.array([len(title) for title in titles], float)
    vectors = vectors_of(open_store(folder))
    ours = np.array([vectors[key][0] for key in keys])
    assert abs(np.corrcoef(ours, lengths)[0, 1]) > 0.999
    assert ours.mean() == pytest.approx(0, abs=0.05)
    before = (folder / "pca.safetensors").read_bytes()
    more_keys, more = many(10, start=40)
    write_items(tmp_path, keys + more_keys, titles + more)
    run(experiment)
    assert (folder / "pca.safetensors").read_bytes() == before
    again = vectors_of(open_store(folder))
    assert [again[key] for key in keys] == [vectors[key] for key in keys]
    assert len(again) == 50


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ({"dimension": 5}, r"text.dimension: 5: .* gives 4 numbers"),
        ({"dimension": 3, "reduction": "pca"}, r"text.dimension: 3: .* 2 distinct texts, too few"),
    ],
)
def test_a_dimension_that_cannot_be_is_refused(tmp_path, encoder, text, wanted):
    write_items(tmp_path)
    with pytest.raises(UserError, match=wanted):
        run(make_experiment(tmp_path, **text))


def test_random_vectors_depend_on_the_text_alone_and_load_no_encoder(tmp_path, monkeypatch):
    monkeypatch.delitem(ENCODERS, "llm")
    write_items(tmp_path)
    experiment = make_experiment(tmp_path, vectors="random", dimension=16)
    folder, _ = run(experiment)
    assert folder.name == "item-random"
    store = open_store(folder)
    check_store(store, experiment, Stored("item", "text"))
    vectors = vectors_of(store)
    assert vectors["a"] == vectors["d"]
    assert np.linalg.norm(vectors["a"]) == pytest.approx(1, abs=1e-3)
    assert abs(np.dot(vectors["a"], vectors["c"])) < 0.9
    write_items(tmp_path, ["z"], ["yyy"])
    other = make_experiment(tmp_path, vectors="random", dimension=16, store=str(tmp_path / "other"))
    assert vectors_of(open_store(run(other)[0]))["z"] == vectors["c"]


def test_no_vectors_at_all(tmp_path, encoder):
    write_items(tmp_path)
    assert embed(make_experiment(tmp_path, vectors="none"), ALONE) == {}
    assert not (tmp_path / "store").exists()


def test_a_catalog_without_any_text_is_refused(tmp_path, encoder):
    write_items(tmp_path, titles=(None, "", " ", None))
    with pytest.raises(UserError, match=r"every row of .* is empty"):
        run(make_experiment(tmp_path))
    assert not list(tmp_path.glob("store/*"))


def test_a_vector_that_overflows_float16_stops_the_job(tmp_path, encoder, monkeypatch):
    write_items(tmp_path)
    monkeypatch.setattr(encoder, "encode", lambda texts, prompt: Encoded(np.full((len(texts), 4), 1e6, np.float32)))
    with pytest.raises(UserError, match=r"text.encoder.*not finite in float16.*normalize"):
        run(make_experiment(tmp_path))


def test_a_real_decoder_fills_a_store(tmp_path):
    keys, titles = [f"k{n}" for n in range(50)], [f"tea {'cup ' * (n % 9)}{n}" for n in range(50)]
    write_items(tmp_path, keys, titles)
    write_llama(tmp_path / "llama", {word for title in titles for word in title.split()})
    store = open_store(run(make_experiment(tmp_path, encoder=str(tmp_path / "llama")))[0])
    assert store.manifest["made_with"]["pooling"] == "last"
    assert store.manifest["made_with"]["max_length"] == 512
    assert store.vectors.shape == (50, 8)
    assert torch.allclose(store.vectors.float().norm(dim=1), torch.ones(50), atol=1e-3)


def test_threads_are_given_back(tmp_path, encoder):
    write_items(tmp_path)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        run(make_experiment(tmp_path))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_the_manifest_says_how_many_texts_and_what_they_are_worth(tmp_path, encoder, small_shards):
    keys, titles = many(20)
    write_items(tmp_path, keys, titles)
    manifest = json.loads((run(make_experiment(tmp_path))[0] / "manifest.json").read_text())
    assert (manifest["rows"], manifest["dimension"], manifest["dtype"], manifest["keys"]) == (20, 4, "float16", 20)
    assert [shard["rows"] for shard in manifest["shards"]] == [8, 8, 4]


def test_an_experiment_without_texts_loads_no_encoder(tmp_path, monkeypatch):
    monkeypatch.delitem(ENCODERS, "llm")
    raw = make_experiment(tmp_path).model_dump(mode="json", exclude_none=True)
    del raw["entities"]["item"]["text"]
    assert embed(experiment_type(KINDS).model_validate(raw), ALONE) == {}


def test_several_machines_do_not_embed_into_a_bucket(tmp_path, monkeypatch):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with pytest.raises(UserError, match="ranks of several machines cannot write one file"):
        check_store_place("s3://bucket/store", "Embed", replace(ALONE, world_size=4))
