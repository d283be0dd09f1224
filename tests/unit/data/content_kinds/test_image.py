import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from foundrank.data.config.effects import without_effect
from foundrank.data.content_kinds import pictures
from foundrank.data.content_kinds.content import Missing
from foundrank.data.content_kinds.image import OUTSIDE, Image
from foundrank.data.content_kinds.pictures import digest_of
from foundrank.data.storage.file_systems import StorageError
from tests.pictures import plain, png_of_size


def image(template="{path}", **fields):
    return Image(image=template, **{"encoder": "vit"} | fields)


def located(of, paths):
    return of.inputs(pa.table({"path": pa.array(paths, pa.string())})).to_pylist()


def test_a_location_is_in_the_folder_and_as_written():
    assert located(image(folder="/exp/pictures"), ["a  b/c.png", None, "", " d.png"]) == [
        "/exp/pictures/a  b/c.png",
        None,
        None,
        "/exp/pictures/ d.png",
    ]
    assert located(image("{path}.jpg", folder="s3://bucket/all/"), ["x"]) == ["s3://bucket/all/x.jpg"]
    assert located(image(folder="/exp"), ["/data/x.png", "s3://b/x.png", "https://host/x.png"]) == [
        "/data/x.png",
        "s3://b/x.png",
        "https://host/x.png",
    ]


def digests(of, paths):
    missing = Missing()
    found = of.digests(pa.array(located(of, paths), pa.large_string()), missing)
    return found, missing


def test_pictures_are_known_by_their_bytes_and_what_is_none_is_counted(tmp_path):
    red = plain("red")
    for name, content in {"a.png": red, "b.png": red, "c.png": plain("blue"), "d.png": b"", "e.png": b"text"}.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "bomb.png").write_bytes(png_of_size(60_000, 60_000))
    found, missing = digests(
        image(folder=str(tmp_path)),
        ["a.png", "b.png", "c.png", None, "a.png", "d.png", "e.png", "bomb.png", "x.png", "x.png", "y.png"],
    )
    assert found[:5] == [digest_of(red), digest_of(red), digest_of(plain("blue")), None, digest_of(red)]
    assert found[5:] == [None] * 6
    assert missing.counts == {
        pictures.EMPTY: 1,
        pictures.NO_PICTURE: 1,
        pictures.TOO_LARGE: 1,
        pictures.MISSING: 3,
    }
    assert missing.examples[pictures.MISSING] == [f"{tmp_path}/x.png", f"{tmp_path}/y.png"]


def test_the_limit_of_pixels_is_a_setting(tmp_path):
    (tmp_path / "a.png").write_bytes(plain("red", (10, 10)))
    assert digests(image(folder=str(tmp_path), max_pixels=100), ["a.png"])[0] != [None]
    assert digests(image(folder=str(tmp_path), max_pixels=99), ["a.png"])[1].counts == {pictures.TOO_LARGE: 1}


def test_a_catalog_does_not_say_what_is_read_of_this_machine(tmp_path):
    inside = tmp_path / "in"
    inside.mkdir()
    for folder in (tmp_path, inside):
        (folder / "a.png").write_bytes(plain("red"))
    paths = ["../a.png", f"{tmp_path}/a.png", f"file://{tmp_path}/a.png", "http://host/a.png", f"{inside}/../a.png"]
    found, missing = digests(image(folder=str(inside)), paths)
    assert found == [None] * 5
    assert missing.counts == {OUTSIDE: 5}
    assert digests(image(folder=str(inside)), ["a.png", f"{inside}/a.png"])[1].counts == {}
    assert digests(image(folder="/"), [f"{tmp_path}/a.png"])[1].counts == {}


@given(st.text(max_size=30))
def test_any_name_is_a_picture_or_a_reason(tmp_path_factory, name):
    root = tmp_path_factory.getbasetemp()
    of = image(folder=str(root / "none"))
    found, missing = digests(of, [name])
    assert found == [None]
    assert sum(missing.counts.values()) == (name != "")


def test_pictures_in_a_bucket(bucket):
    red = plain("red")
    location = bucket.put("pictures/a  b.png", red)
    of = image(folder=f"{bucket.uri}/pictures")
    found, missing = digests(of, ["a  b.png", location, "gone.png", f"{bucket.uri}/other/a.png", "a.png?Signature=xyz"])
    assert found == [digest_of(red), digest_of(red), None, None, None]
    assert missing.counts == {pictures.MISSING: 1, OUTSIDE: 1, pictures.NO_FILE: 1}
    assert "xyz" not in str(missing.examples)
    bucket.fails = lambda request: True  # which says nothing of the picture
    with pytest.raises(StorageError, match="access is denied"):
        digests(of, ["a  b.png"])
    bucket.fails = lambda request: False


def test_settings():
    with pytest.raises(ValidationError, match="name the `encoder`"):
        image(encoder=None)
    with pytest.raises(ValidationError, match="web address"):
        image(folder="https://host/pictures")
    assert image(encoder=None, vectors="none").own_encoder.vectors == "none"
    assert set(without_effect(image(vectors="random"))) >= {"encoder", "pooling", "precision", "batch_size"}
    assert "dimension" not in without_effect(image(vectors="random"))
    assert without_effect(image("{path}")) == {"reduction": "a dimension"}
    assert without_effect(image(encoder="./vit", dimension=4)) == {"revision": "an encoder from a hub"}
