import errno
import io
import os
from contextlib import redirect_stderr

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image as Pil

from foundrank.data.config.sections.entities import Stored
from foundrank.data.contents.content_store import check_store, open_store
from foundrank.data.errors import UserError
from foundrank.dist.capacity import preflight
from foundrank.dist.capacity.preflight import check_embedding
from foundrank.dist.embed import embed as embed_module
from foundrank.dist.embed.embed import embed
from foundrank.model.contents.image_encoder import ImageEncoder
from tests.pictures import encoded, plain, png_of_size
from tests.tiny_encoder import write_vit

from .embed_job import ALONE, content, experiment_of, vectors_of


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    return write_vit(tmp_path_factory.mktemp("vit"))


@pytest.fixture
def shop(tmp_path, vit):
    """A catalog of 20 pictures and of five that are none, and its experiment with changed settings."""
    (tmp_path / "pictures").mkdir()
    for number in range(20):
        (tmp_path / f"pictures/{number}.png").write_bytes(noise(number))
    write(tmp_path / "pictures/half.png", noise(90)[:300])
    write(tmp_path / "pictures/bomb.png", png_of_size(30_000, 30_000))
    write(tmp_path / "pictures/empty.png", b"")
    names = [str(number) for number in range(20)] + ["half", "bomb", "empty", "gone", "half", None]
    keys = [f"k{at}" for at in range(len(names))]
    paths = [name and f"{name}.png" for name in names]
    pq.write_table(pa.table({"asin": keys, "path": pa.array(paths, pa.string())}), tmp_path / "items.parquet")

    def experiment(**fields):
        picture = {"image": "{path}", "folder": str(tmp_path / "pictures"), "encoder": str(vit), "precision": "fp32"}
        item = {
            "id": "item",
            "catalog": {"path": str(tmp_path / "items.parquet"), "key": "asin"},
            "contents": {"picture": {name: value for name, value in (picture | fields).items() if value is not None}},
        }
        return experiment_of(item, tmp_path)

    return experiment


def noise(seed, size=24):
    return encoded(Pil.fromarray(np.random.default_rng(seed).integers(0, 255, (size, size, 3), np.uint8)))


def write(path, content):
    path.write_bytes(content)


def run(experiment, runtime=ALONE, **options):
    with redirect_stderr(io.StringIO()) as said:
        folder = embed(experiment, runtime, **options)["item_picture"]
    return folder, said.getvalue()


GOOD = {f"k{number}" for number in range(20)}
MISSING = {
    "more pixels than image.max_pixels": (1, "bomb"),
    "an empty file": (1, "empty"),
    "no such file": (1, "gone"),
    "damaged": (2, "half"),
}


def missing_of(folder):
    told = open_store(folder).manifest["missing"]
    return {
        reason: (of["rows"], *(name.rpartition("/")[2][:-4] for name in of["first"])) for reason, of in told.items()
    }


def test_what_is_no_picture_is_a_missing_aspect_counted_and_named(tmp_path, shop, small_shards):
    folder, said = run(shop())
    store = open_store(folder)
    check_store(store, shop(), Stored("item", "picture"))
    assert set(vectors_of(store)) == GOOD
    assert np.isfinite(store.vectors.numpy()).all()
    assert missing_of(folder) == MISSING
    assert "embedded 21 distinct pictures" in said
    assert "5 rows have none: 1 " in said
    assert f"2 damaged ({tmp_path}/pictures/half.png)" in said
    before, written = content(folder), (folder / "manifest.json").stat().st_mtime_ns
    again = run(shop())[1]
    assert (folder / "manifest.json").stat().st_mtime_ns == written
    assert "up to date" in again
    assert "5 rows have none" in again
    assert content(folder) == before


def test_a_picture_is_known_by_its_bytes(tmp_path, shop, small_shards, monkeypatch):
    folder = run(shop())[0]
    before = vectors_of(open_store(folder))
    encoded_now = []
    monkeypatch.setattr(
        ImageEncoder,
        "encode",
        lambda self, inputs, prompt, was=ImageEncoder.encode: encoded_now.extend(inputs) or was(self, inputs),
    )
    pictures = tmp_path / "pictures"
    write(pictures / "1.png", noise(0))  # what 0.png is
    write(pictures / "2.png", noise(200))
    write(pictures / "half.png", noise(90))
    (pictures / "3.png").unlink()
    run(shop())
    after = vectors_of(open_store(folder))
    assert sorted(given.location for given in encoded_now) == [f"{pictures}/2.png", f"{pictures}/half.png"]
    assert after["k1"] == after["k0"] == before["k0"]
    assert after["k2"] != before["k2"]
    assert set(after) == GOOD - {"k3"} | {"k20", "k24"}
    assert missing_of(folder)["no such file"] == (2, "3", "gone")
    assert "damaged" not in missing_of(folder)


def test_another_limit_of_pixels_makes_no_vector_anew(tmp_path, shop, small_shards):
    write(tmp_path / "pictures/bomb.png", plain("red", (60, 50)))
    folder = run(shop(max_pixels=2999))[0]
    before = vectors_of(open_store(folder))
    with pytest.raises(UserError, match="max_pixels: 2999 there, 3000 here"):
        check_store(open_store(folder), shop(max_pixels=3000), Stored("item", "picture"))
    run(shop(max_pixels=3000))
    after = vectors_of(open_store(folder))
    assert set(after) == GOOD | {"k21"}
    assert {key: after[key] for key in before} == before


@pytest.mark.parametrize("stop_after", [0, 1, 2])
def test_a_stopped_job_ends_with_the_same_bytes(tmp_path, shop, small_shards, monkeypatch, stop_after):
    whole = content(run(shop())[0])
    (tmp_path / "store").rename(tmp_path / "whole")
    done, encode = [], ImageEncoder.encode

    def stopping(self, inputs, prompt):
        if len(done) >= stop_after:
            raise KeyboardInterrupt
        done.append(inputs)
        return encode(self, inputs, prompt)

    monkeypatch.setattr(ImageEncoder, "encode", stopping)
    monkeypatch.setattr(embed_module, "_workers", lambda: 1)
    with pytest.raises(KeyboardInterrupt):
        run(shop())
    monkeypatch.setattr(ImageEncoder, "encode", encode)
    folder, said = run(shop())
    assert content(folder) == whole
    assert f"embedded {21 - 8 * stop_after} distinct" in said


def test_random_vectors_are_of_the_bytes_and_need_no_encoder(tmp_path, shop):
    write(tmp_path / "pictures/1.png", noise(0))
    folder = run(shop(vectors="random", encoder=None, precision=None, dimension=8))[0]
    assert folder.name == "item_picture-random"
    vectors = vectors_of(open_store(folder))
    assert vectors["k0"] == vectors["k1"] != vectors["k2"]
    assert set(vectors) == GOOD | {"k20", "k24"}  # it is not decoded


def test_pca_of_pictures_leaves_out_what_is_damaged(tmp_path, shop):
    narrow = {"dimension": 3, "reduction": "pca"}
    store = open_store(run(shop(**narrow))[0])
    assert store.size == 3
    assert (store.vectors != 0).any(1).sum() == 20  # rows of 21
    found = vectors_of(store)
    (tmp_path / "store").rename(tmp_path / "before")
    (tmp_path / "pictures/half.png").unlink()
    assert vectors_of(open_store(run(shop(**narrow))[0])) == found


def test_two_that_are_broken_and_one_that_is_not(tmp_path, shop, small_shards):
    """Rows of several shards that lose their only key, and a row that many keys share."""
    for number in range(0, 20, 3):
        write(tmp_path / f"pictures/{number}.png", noise(number)[:-200])
    folder = run(shop())[0]
    broken = {f"k{number}" for number in range(0, 20, 3)}
    assert set(vectors_of(open_store(folder))) == GOOD - broken
    assert missing_of(folder)["damaged"] == (9, "0", "3", "6")


def test_a_catalog_without_any_picture_says_why(tmp_path, shop):
    with pytest.raises(
        UserError, match=r"entities.item.contents.picture.*not one of the pictures can be had; 25: no such file"
    ):
        run(shop(folder=str(tmp_path / "elsewhere")))


@pytest.mark.parametrize("already", [False, True])
def test_pictures_that_are_all_damaged_make_no_store(tmp_path, shop, small_shards, already):
    before = vectors_of(open_store(run(shop())[0])) if already else None
    for number in range(20):
        write(tmp_path / f"pictures/{number}.png", noise(number)[:-200])
    for _ in range(2):  # the second finds nothing to encode
        with pytest.raises(UserError, match=r"contents.picture.*not one of the pictures can be had; "):
            run(shop())
    folder = tmp_path / "store/item_picture"
    assert (folder / "manifest.json").exists() == already
    if already:  # what it had stays usable
        assert vectors_of(open_store(folder)) == before
    write(tmp_path / "pictures/3.png", noise(3))
    assert set(vectors_of(open_store(run(shop())[0]))) == {"k3"}


def test_a_disk_that_fails_for_a_while_costs_no_picture(tmp_path, shop, small_shards, monkeypatch):
    folder = run(shop())[0]
    before, opened = content(folder), os.open

    def failing(path, *arguments, **options):
        if str(path).endswith("/7.png"):
            raise OSError(errno.EIO, "Input/output error")
        return opened(path, *arguments, **options)

    monkeypatch.setattr(os, "open", failing)
    with pytest.raises(UserError, match=r"pictures/7.png: cannot be read now \(Input/output error\)"):
        run(shop())
    monkeypatch.setattr(os, "open", opened)
    assert content(folder) == before
    run(shop())
    assert content(folder) == before


def test_a_check_lets_pass_a_catalog_whose_first_pictures_are_missing(tmp_path, shop, monkeypatch, capsys):
    for number in range(4):
        (tmp_path / f"pictures/{number}.png").unlink()
    monkeypatch.setattr(preflight, "_LOOKED_AT", 4)
    check_embedding(shop())
    said = capsys.readouterr().out
    assert "not one of the pictures of the first 4 rows can be had: 4 no such file, first " in said
    assert set(vectors_of(open_store(run(shop())[0]))) == GOOD - {"k0", "k1", "k2", "k3"}


def test_a_check_looks_at_the_encoder_and_at_the_first_pictures(tmp_path, shop):
    (told,) = [line for line in check_embedding(shop()) if "cannot be had" in line]
    assert told.startswith("item picture: of the first 26 rows 3 name pictures that cannot be had: 1 more pixels")
    with pytest.raises(UserError, match="not one of the pictures can be had"):
        check_embedding(shop(folder=str(tmp_path)))
    with pytest.raises(UserError, match=r"contents.picture.encoder: /no/vit: no such folder"):
        check_embedding(shop(encoder="/no/vit"))
    with pytest.raises(UserError, match=r"contents.picture.encoder: .*no config.json"):
        check_embedding(shop(encoder=str(tmp_path)))
    assert not (tmp_path / "store").exists()
