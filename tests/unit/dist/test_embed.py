import io
import json
import subprocess
import threading
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from rich.console import Console

from foundrank.data.errors import UserError
from foundrank.data.experiment import Experiment
from foundrank.data.text_store import check_text_store, open_text_store
from foundrank.dist import embed as embed_module
from foundrank.dist import embed_plan
from foundrank.dist.embed import embed
from foundrank.dist.runtime import Runtime
from foundrank.model.text_settings import StatedSettings
from tests.tiny_encoder import write_llama

ALONE = Runtime(0, 1, torch.device("cpu"))


@dataclass
class LengthEncoder:
    """Stands in for the language model: a text's vector is (its length, 1, 0, 0); longer than 50 is cut."""

    weights_checksum: str = "w"
    size: int = 4
    precision: str = "fp32"
    pooling: str = "mean"
    normalize: bool = False
    max_length: int = 50
    revision: str | None = None
    stated: StatedSettings = field(default_factory=StatedSettings)
    calls: list = field(default_factory=list)
    fails_at: int | None = None
    turn: threading.Lock = field(default_factory=threading.Lock)

    def encode(self, texts, prompt=""):
        with self.turn:
            if self.fails_at is not None and len(self.calls) >= self.fails_at:
                raise KeyboardInterrupt
            self.calls.append([prompt + text for text in texts])
        vectors = [[min(len(prompt + text), 50), 1.0, 0.0, 0.0] for text in texts]
        return np.array(vectors, np.float32).reshape(-1, 4), sum(len(text) > 50 for text in texts)

    @property
    def texts(self):
        return sorted(text for call in self.calls for text in call)


@pytest.fixture
def encoder(monkeypatch):
    encoder = LengthEncoder()
    monkeypatch.setattr(embed_module, "load_text_encoder", lambda config, precision: encoder)
    return encoder


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr(embed_plan, "SHARD_ROWS", 8)


def make_experiment(tmp_path, template="{title}", prompt=None, **text):
    catalog = {"path": str(tmp_path / "items*.parquet"), "key": "asin"}
    item = {"id": "item", "catalog": catalog, "text": template, "prompt": prompt}
    return Experiment.model_validate(
        {
            "name": "t",
            "entities": {"user": {"id": "user"}, "item": item},
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


def write_items(tmp_path, keys=("a", "b", "c", "d"), titles=("xx", None, "yyy", "xx"), name="items.parquet"):
    pq.write_table(pa.table({"asin": keys, "title": pa.array(titles, pa.string())}), tmp_path / name, row_group_size=7)


def many(count, start=0):
    """Keys, and as many distinct texts of 1 to 40 letters."""
    numbers = range(start, start + count)
    return [f"k{n}" for n in numbers], [f"{n:03d}" + "x" * (n * 7 % 37) for n in numbers]


def run(experiment, **options):
    said = Console(file=io.StringIO(), width=200)
    folder = embed(experiment, ALONE, said, **options)["item"]
    return folder, said.file.getvalue()


def vectors_of(store):
    return {key.as_py(): store.vectors[row].tolist() for key, row in zip(store.keys, store.row_of_key, strict=True)}


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_each_key_with_text_gets_its_vector_and_equal_texts_are_encoded_once(tmp_path, encoder):
    write_items(tmp_path)
    experiment = make_experiment(tmp_path)
    folder, said = run(experiment)
    assert folder == tmp_path / "store" / "item"
    store = open_text_store(folder)
    check_text_store(store, experiment, "item")
    assert vectors_of(store) == {"a": [2, 1, 0, 0], "c": [3, 1, 0, 0], "d": [2, 1, 0, 0]}  # b is without text: absent
    assert encoder.texts == ["xx", "yyy"]
    assert store.manifest["made_with"]["weights_sha256"] == "w"
    assert store.manifest["model"] == {"id": "minilm", "revision": None}
    assert "2 distinct texts of 3 rows" in said


def test_shards_and_files_keep_their_order(tmp_path, encoder, small_shards):
    keys, titles = many(100)
    for at in range(0, 100, 30):
        write_items(tmp_path, keys[at : at + 30], titles[at : at + 30], f"items{at:02d}.parquet")
    store = open_text_store(run(make_experiment(tmp_path))[0])
    assert [len(call) for call in encoder.calls] == [8] * 12 + [4]
    assert vectors_of(store) == {key: [len(title), 1, 0, 0] for key, title in zip(keys, titles, strict=True)}


def test_texts_of_a_shard_are_of_similar_length(tmp_path, encoder, small_shards):
    keys, titles = many(100)
    write_items(tmp_path, keys, titles)
    run(make_experiment(tmp_path))
    assert max(max(map(len, call)) - min(map(len, call)) for call in encoder.calls) <= 4


def test_a_second_run_encodes_and_touches_nothing(tmp_path, encoder):
    write_items(tmp_path)
    folder, _ = run(make_experiment(tmp_path))
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    _, said = run(make_experiment(tmp_path))
    assert "up to date" in said
    assert len(encoder.calls) == 1
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_only_what_is_new_is_encoded_and_the_old_rows_stay(tmp_path, encoder, small_shards):
    keys, titles = many(20)
    write_items(tmp_path, keys, titles)
    folder, _ = run(make_experiment(tmp_path))
    before = open_text_store(folder)
    encoder.calls.clear()
    more_keys, more = many(5, start=20)
    write_items(tmp_path, keys[3:] + more_keys, titles[3:] + more)  # three items are gone
    _, said = run(make_experiment(tmp_path))
    assert encoder.texts == sorted(more)
    after = open_text_store(folder)
    assert torch.equal(after.vectors[:20], before.vectors)
    wanted = {key: [len(title), 1, 0, 0] for key, title in zip(keys[3:] + more_keys, titles[3:] + more, strict=True)}
    assert vectors_of(after) == wanted
    assert "3 vectors are of texts the catalog no longer has" in said

    # An item that comes back finds its vector; a rebuild drops the others.
    encoder.calls.clear()
    write_items(tmp_path, keys[2:] + more_keys, titles[2:] + more)
    run(make_experiment(tmp_path))
    assert encoder.calls == []
    run(make_experiment(tmp_path), rebuild=True)
    assert len(open_text_store(folder).vectors) == 23
    assert [p.name for p in folder.parent.iterdir()] == ["item"]


@pytest.mark.parametrize("change", ["weights", "pooling", "template", "prompt", "dimension", "max_length"])
def test_vectors_of_two_kinds_are_never_mixed(tmp_path, encoder, change):
    write_items(tmp_path)
    folder, _ = run(make_experiment(tmp_path))
    before = content(folder)
    options = {"template": {"template": "{asin} {title}"}, "prompt": {"prompt": "q: "}, "dimension": {"dimension": 2}}
    experiment = make_experiment(tmp_path, **options.get(change, {}))
    if change in ("weights", "pooling", "max_length"):
        setattr(encoder, {"weights": "weights_checksum"}.get(change, change), 7 if change == "max_length" else "other")
    encoder.calls.clear()
    with pytest.raises(UserError, match=r"made differently .*there, .* here.*never mixed: add --rebuild"):
        run(experiment)
    assert content(folder) == before
    run(experiment, rebuild=True)
    assert len(encoder.calls) == 1
    check_text_store(open_text_store(folder), experiment, "item")


def test_a_store_keeps_the_precision_it_began_with(tmp_path, encoder, monkeypatch):
    write_items(tmp_path)
    asked = []
    monkeypatch.setattr(embed_module, "load_text_encoder", lambda c, precision: asked.append(precision) or encoder)
    run(make_experiment(tmp_path))
    run(make_experiment(tmp_path))
    run(make_experiment(tmp_path), rebuild=True)
    assert asked == [None, "fp32", None]


@pytest.mark.parametrize("stop_after", [0, 1, 5, 12])
def test_a_stopped_job_goes_on_where_it_was(tmp_path, encoder, small_shards, stop_after):
    keys, titles = many(100)
    write_items(tmp_path, keys, titles)
    whole, _ = run(make_experiment(tmp_path, store=str(tmp_path / "whole")))
    encoder.calls.clear()
    encoder.fails_at = stop_after
    experiment = make_experiment(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        run(experiment)
    with pytest.raises(UserError, match="is missing"):
        open_text_store(tmp_path / "store" / "item")
    done = len(encoder.calls)
    encoder.fails_at = None
    folder, _ = run(experiment)
    assert len(encoder.calls) <= done + 13 - stop_after
    assert content(folder) == content(whole)


@pytest.mark.parametrize("damage", ["flipped", "truncated", "note"])
def test_a_damaged_shard_of_an_unfinished_job_is_made_again(tmp_path, encoder, small_shards, damage):
    keys, titles = many(60)
    write_items(tmp_path, keys, titles)
    whole, _ = run(make_experiment(tmp_path, store=str(tmp_path / "whole")))
    encoder.calls.clear()
    encoder.fails_at = 6
    with pytest.raises(KeyboardInterrupt):
        run(make_experiment(tmp_path))
    folder = tmp_path / "store" / "item"
    notes = sorted(folder.glob("work/shard-*.json"))
    assert notes
    vectors = bytearray((folder / "vectors.f16").read_bytes())
    if damage == "flipped":
        vectors[3] ^= 1
        (folder / "vectors.f16").write_bytes(vectors)
    elif damage == "truncated":
        (folder / "vectors.f16").write_bytes(vectors[:40])
    else:
        notes[0].write_text(notes[0].read_text()[:-5])
    encoder.fails_at = None
    before = len(encoder.calls)
    run(make_experiment(tmp_path))
    assert len(encoder.calls) - before >= 8 - len(notes) + 1
    assert content(folder) == content(whole)


@pytest.mark.parametrize("name", ["vectors.f16", "index-*.parquet"])
def test_damage_of_a_finished_store_is_found_and_mended(tmp_path, encoder, small_shards, name):
    keys, titles = many(60)
    write_items(tmp_path, keys, titles)
    folder, _ = run(make_experiment(tmp_path))
    before = content(folder)
    (path,) = folder.glob(name)
    damaged = bytearray(path.read_bytes())
    damaged[130] ^= 1
    path.write_bytes(damaged)
    encoder.calls.clear()
    run(make_experiment(tmp_path))
    assert len(encoder.calls) == (1 if name == "vectors.f16" else 0)
    assert content(folder) == before


def test_a_damaged_shard_whose_texts_are_gone_becomes_zeros(tmp_path, encoder, small_shards):
    keys, titles = many(16)
    write_items(tmp_path, keys, titles)
    folder, _ = run(make_experiment(tmp_path))
    rows = open_text_store(folder).row_of_key
    gone = [n for n in range(16) if rows[n] < 8][:3]
    kept = [n for n in range(16) if n not in gone]
    (folder / "vectors.f16").write_bytes(b"\xff" * 16 * 8)
    write_items(tmp_path, [keys[n] for n in kept], [titles[n] for n in kept])
    run(make_experiment(tmp_path))
    store = open_text_store(folder)
    assert vectors_of(store) == {keys[n]: [len(titles[n]), 1, 0, 0] for n in kept}
    assert store.vectors[rows[gone]].eq(0).all()


def test_a_folder_of_something_else_is_left_alone(tmp_path, encoder):
    write_items(tmp_path)
    folder = tmp_path / "store" / "item"
    folder.mkdir(parents=True)
    (folder / "thesis.txt").write_text("years of work")
    for rebuild in (False, True):
        with pytest.raises(UserError, match="is not empty and holds no text store"):
            run(make_experiment(tmp_path), rebuild=rebuild)
    assert [path.name for path in folder.iterdir()] == ["thesis.txt"]


def test_an_unfinished_rebuild_is_gone_on_with_and_told(tmp_path, encoder, small_shards):
    keys, titles = many(60)
    write_items(tmp_path, keys, titles)
    folder, _ = run(make_experiment(tmp_path))
    before = content(folder)
    encoder.calls.clear()
    encoder.fails_at = 5
    with pytest.raises(KeyboardInterrupt):
        run(make_experiment(tmp_path), rebuild=True)
    encoder.fails_at = None
    assert content(folder) == before
    assert "an unfinished rebuild lies in" in run(make_experiment(tmp_path))[1]
    done = len(encoder.calls)
    run(make_experiment(tmp_path), rebuild=True)
    assert len(encoder.calls) < done + 8
    assert content(folder) == before
    assert [path.name for path in folder.parent.iterdir()] == ["item"]


def test_notes_of_another_job_are_not_believed(tmp_path, encoder, small_shards):
    keys, titles = many(60)
    write_items(tmp_path, keys, titles)
    encoder.fails_at = 4
    with pytest.raises(KeyboardInterrupt):
        run(make_experiment(tmp_path))
    encoder.fails_at, encoder.weights_checksum = None, "other"
    encoder.calls.clear()
    run(make_experiment(tmp_path))
    assert len(encoder.calls) == 8


def test_a_rewritten_catalog_with_the_same_texts_only_renews_the_manifest(tmp_path, encoder):
    write_items(tmp_path)
    folder, _ = run(make_experiment(tmp_path))
    before = content(folder)
    pq.write_table(
        pa.table({"asin": list("abcd"), "title": ["xx", None, "yyy", "xx"], "new": [1, 2, 3, 4]}),
        tmp_path / "items.parquet",
    )
    experiment = make_experiment(tmp_path)
    with pytest.raises(UserError, match="has changed since"):
        check_text_store(open_text_store(folder), experiment, "item")
    run(experiment)
    check_text_store(open_text_store(folder), experiment, "item")
    assert len(encoder.calls) == 1
    assert {name for name, bytes_ in content(folder).items() if bytes_ != before[name]} == {"manifest.json"}


def test_a_prompt_is_put_before_each_text(tmp_path, encoder):
    write_items(tmp_path)
    folder, _ = run(make_experiment(tmp_path, prompt="item: "))
    assert encoder.texts == ["item: xx", "item: yyy"]
    assert open_text_store(folder).manifest["made_with"]["prompt"] == "item: "
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
    store = open_text_store(run(make_experiment(tmp_path, dimension=2))[0])
    assert store.size == 2
    expected = np.array([3.0, 1.0]) / np.sqrt(10)
    np.testing.assert_allclose(vectors_of(store)["c"], expected, atol=1e-3)


def test_pca_keeps_what_varies_and_is_kept_for_what_comes_later(tmp_path, encoder, small_shards):
    keys, titles = many(40)
    write_items(tmp_path, keys, titles)
    experiment = make_experiment(tmp_path, dimension=1, reduction="pca")
    folder, _ = run(experiment)
    lengths = np.array([len(title) for title in titles], float)
    vectors = vectors_of(open_text_store(folder))
    ours = np.array([vectors[key][0] for key in keys])
    assert abs(np.corrcoef(ours, lengths)[0, 1]) > 0.999
    assert ours.mean() == pytest.approx(0, abs=0.05)
    before = (folder / "pca.safetensors").read_bytes()
    more_keys, more = many(10, start=40)
    write_items(tmp_path, keys + more_keys, titles + more)
    run(experiment)
    assert (folder / "pca.safetensors").read_bytes() == before
    again = vectors_of(open_text_store(folder))
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
    monkeypatch.setattr(embed_module, "load_text_encoder", None)
    write_items(tmp_path)
    experiment = make_experiment(tmp_path, vectors="random", dimension=16)
    folder, _ = run(experiment)
    assert folder.name == "item-random"
    store = open_text_store(folder)
    check_text_store(store, experiment, "item")
    vectors = vectors_of(store)
    assert vectors["a"] == vectors["d"]
    assert np.linalg.norm(vectors["a"]) == pytest.approx(1, abs=1e-3)
    assert abs(np.dot(vectors["a"], vectors["c"])) < 0.9
    write_items(tmp_path, ["z"], ["yyy"])
    other = make_experiment(tmp_path, vectors="random", dimension=16, store=str(tmp_path / "other"))
    assert vectors_of(open_text_store(run(other)[0]))["z"] == vectors["c"]


def test_no_vectors_at_all(tmp_path, encoder):
    write_items(tmp_path)
    assert embed(make_experiment(tmp_path, vectors="none"), ALONE, Console(quiet=True)) == {}
    assert not (tmp_path / "store").exists()


def test_a_catalog_without_any_text_is_refused(tmp_path, encoder):
    write_items(tmp_path, titles=(None, "", " ", None))
    with pytest.raises(UserError, match=r"every row of .* is empty"):
        run(make_experiment(tmp_path))
    assert not list(tmp_path.glob("store/*"))


def test_a_vector_that_overflows_float16_stops_the_job(tmp_path, encoder, monkeypatch):
    write_items(tmp_path)
    monkeypatch.setattr(encoder, "encode", lambda texts, prompt: (np.full((len(texts), 4), 1e6, np.float32), 0))
    with pytest.raises(UserError, match=r"not finite in float16.*text.normalize"):
        run(make_experiment(tmp_path))


def test_two_jobs_do_not_write_one_store(tmp_path, encoder, monkeypatch):
    write_items(tmp_path)
    experiment = make_experiment(tmp_path)
    inner = []

    def encode(texts, prompt):
        with pytest.raises(UserError, match="another `foundrank embed` is writing"):
            run(experiment)
        inner.append(True)
        return LengthEncoder().encode(texts)

    monkeypatch.setattr(encoder, "encode", encode)
    run(experiment)
    assert inner == [True]


def test_a_real_decoder_fills_a_store(tmp_path):
    keys, titles = [f"k{n}" for n in range(50)], [f"tea {'cup ' * (n % 9)}{n}" for n in range(50)]
    write_items(tmp_path, keys, titles)
    write_llama(tmp_path / "llama", {word for title in titles for word in title.split()})
    store = open_text_store(run(make_experiment(tmp_path, encoder=str(tmp_path / "llama")))[0])
    assert store.manifest["made_with"]["pooling"] == "last"
    assert store.manifest["made_with"]["max_length"] == 512
    assert store.vectors.shape == (50, 8)
    assert torch.allclose(store.vectors.float().norm(dim=1), torch.ones(50), atol=1e-3)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 512 kB for the store."""
    folder = tmp_path / "store"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(folder)]
    mounted = subprocess.run(command, capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_is_told_before_the_work_and_the_store_stays(tmp_path, encoder, small_disk):
    keys, titles = many(100)
    write_items(tmp_path, keys, titles)
    folder, _ = run(make_experiment(tmp_path))
    before = content(folder)
    encoder.calls.clear()
    more_keys, more = many(8000)
    write_items(tmp_path, more_keys, more)
    (small_disk / "ballast").write_bytes(bytes(450_000))
    with pytest.raises(UserError, match=r"the disk is full: [0-9,]+ bytes are needed.*Free some space"):
        run(make_experiment(tmp_path))
    assert encoder.calls == []
    assert {name: content(folder).get(name) for name in before} == before
    write_items(tmp_path, keys, titles)
    run(make_experiment(tmp_path))
    assert encoder.calls == []
    assert content(folder) == before


@pytest.mark.parametrize("left", range(0, 180_000, 20_000))
def test_a_disk_that_fills_up_at_any_moment_is_told_and_what_is_done_is_kept(
    tmp_path, encoder, small_shards, small_disk, left
):
    keys, titles = many(300)
    write_items(tmp_path, keys, titles)
    (small_disk / "ballast").write_bytes(bytes(512 * 1024 - left))
    with pytest.raises(UserError, match="the disk is full"):
        run(make_experiment(tmp_path))
    noted = len(list(small_disk.glob("item/work/shard-*.json")))
    assert noted < 38
    (small_disk / "ballast").unlink()
    encoder.calls.clear()
    run(make_experiment(tmp_path))
    assert len(encoder.calls) == 38 - noted
    assert vectors_of(open_text_store(small_disk / "item"))["k7"] == [len(titles[7]), 1, 0, 0]


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
    monkeypatch.setattr(embed_module, "load_text_encoder", None)
    raw = make_experiment(tmp_path).model_dump(mode="json", exclude_none=True)
    del raw["entities"]["item"]["text"]
    assert embed(Experiment.model_validate(raw), ALONE, Console(quiet=True)) == {}
