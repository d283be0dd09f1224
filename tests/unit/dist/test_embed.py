import io
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from foundrank.data.errors import UserError
from foundrank.data.experiment import Experiment, TextConfig
from foundrank.data.text_store import check_text_store, open_text_store
from foundrank.dist import embed as embed_module
from foundrank.dist.embed import embed


@dataclass
class LengthEncoder:
    """Stands in for the language model: a text's vector is (its length, 1)."""

    config: TextConfig
    weights_checksum: str = "w"
    size: int = 2
    bf16: bool = False
    calls: list = field(default_factory=list)

    def encode(self, texts):
        self.calls.append(texts)
        return np.array([[len(text), 1.0] for text in texts], np.float32).reshape(-1, 2)


@pytest.fixture
def encoder(monkeypatch):
    encoder = LengthEncoder(TextConfig(batch_size=1))
    monkeypatch.setattr(embed_module, "load_text_encoder", lambda config: encoder)
    return encoder


def make_experiment(tmp_path, template="{title}", **text):
    catalog = {"path": str(tmp_path / "items*.parquet"), "key": "asin"}
    return Experiment.model_validate(
        {
            "name": "t",
            "entities": {"user": {"id": "user"}, "item": {"id": "item", "catalog": catalog, "text": template}},
            "domains": {
                "shop": {
                    "kind": "recommendation",
                    "events": {"train": "x.parquet"},
                    "tasks": {"click": {"label": "click"}},
                }
            },
            "text": {"store": str(tmp_path / "store"), **text},
        }
    )


def write_items(tmp_path, keys=("a", "b", "c", "d"), titles=("xx", None, "yyy", "xx")):
    pq.write_table(pa.table({"asin": keys, "title": pa.array(titles, pa.string())}), tmp_path / "items.parquet")


def quiet():
    return Console(file=io.StringIO())


def vectors_of(store):
    return {key.as_py(): store.vectors[row].tolist() for key, row in zip(store.keys, store.row_of_key, strict=True)}


def test_each_key_with_text_gets_its_vector_and_equal_texts_are_encoded_once(tmp_path, encoder):
    write_items(tmp_path)
    experiment = make_experiment(tmp_path)
    folders = embed(experiment, quiet())
    assert folders == {"item": tmp_path / "store" / "item"}
    store = open_text_store(folders["item"])
    check_text_store(store, experiment, "item")
    assert vectors_of(store) == {"a": [2, 1], "c": [3, 1], "d": [2, 1]}
    assert encoder.calls == [["xx", "yyy"]]
    assert store.manifest["weights_sha256"] == "w"


def test_chunks_keep_their_order(tmp_path, encoder):
    keys = [f"k{n}" for n in range(100)]
    write_items(tmp_path, keys, ["x" * (n + 1) for n in range(100)])
    store = open_text_store(embed(make_experiment(tmp_path), quiet())["item"])
    assert len(encoder.calls) > 1
    assert vectors_of(store) == {f"k{n}": [n + 1, 1] for n in range(100)}


def test_a_second_run_encodes_nothing(tmp_path, encoder):
    write_items(tmp_path)
    folder = embed(make_experiment(tmp_path), quiet())["item"]
    before = (folder / "vectors.npy").stat().st_mtime_ns
    embed(make_experiment(tmp_path), quiet())
    assert len(encoder.calls) == 1
    assert (folder / "vectors.npy").stat().st_mtime_ns == before


@pytest.mark.parametrize("change", ["texts", "keys", "weights", "pooling", "damage"])
def test_whatever_the_vectors_depend_on_makes_them_anew(tmp_path, encoder, change):
    write_items(tmp_path)
    folder = embed(make_experiment(tmp_path), quiet())["item"]
    text = {}
    if change == "texts":
        write_items(tmp_path, titles=("xx", None, "yyyy", "xx"))
    elif change == "keys":
        write_items(tmp_path, keys=("a", "b", "c", "e"))
    elif change == "weights":
        encoder.weights_checksum = "other"
    elif change == "pooling":
        text = {"pooling": "cls"}
    else:
        content = bytearray((folder / "vectors.npy").read_bytes())
        content[-1] ^= 1
        (folder / "vectors.npy").write_bytes(content)
    experiment = make_experiment(tmp_path, **text)
    embed(experiment, quiet())
    assert len(encoder.calls) == 2
    check_text_store(open_text_store(folder), experiment, "item")


def test_a_rewritten_catalog_with_the_same_texts_only_renews_the_manifest(tmp_path, encoder):
    write_items(tmp_path)
    folder = embed(make_experiment(tmp_path), quiet())["item"]
    pq.write_table(
        pa.table({"asin": list("abcd"), "title": ["xx", None, "yyy", "xx"], "new": [1, 2, 3, 4]}),
        tmp_path / "items.parquet",
    )
    experiment = make_experiment(tmp_path)
    with pytest.raises(UserError, match="has changed since"):
        check_text_store(open_text_store(folder), experiment, "item")
    embed(experiment, quiet())
    check_text_store(open_text_store(folder), experiment, "item")
    assert len(encoder.calls) == 1


def test_a_catalog_without_any_text_is_refused(tmp_path, encoder):
    write_items(tmp_path, titles=(None, "", " ", None))
    with pytest.raises(UserError, match=r"every row of .* is empty"):
        embed(make_experiment(tmp_path), quiet())
    assert not (tmp_path / "store").exists()


def test_an_experiment_without_texts_loads_no_encoder(tmp_path, monkeypatch):
    monkeypatch.setattr(embed_module, "load_text_encoder", None)
    raw = make_experiment(tmp_path).model_dump(mode="json", exclude_none=True)
    del raw["entities"]["item"]["text"]
    assert embed(Experiment.model_validate(raw), quiet()) == {}
