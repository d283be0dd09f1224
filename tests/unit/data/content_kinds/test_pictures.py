import errno
import os
import struct
import zlib
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from foundrank.data.content_kinds import pictures
from foundrank.data.content_kinds.pictures import BadPicture, check_header, decode, read_picture
from foundrank.data.errors import UserError
from tests.pictures import encoded, plain, png_of_size

PIXELS = 10_000


def seen(content):
    return np.asarray(decode(content, PIXELS))


def refused(content):
    with pytest.raises(BadPicture) as found:
        decode(content, PIXELS)
    return str(found.value)


def quarters(mode="RGB"):
    """Red and green over blue and white, 16 x 8."""
    image = Image.new("RGB", (16, 8), "white")
    image.paste("red", (0, 0, 8, 4))
    image.paste("lime", (8, 0, 16, 4))
    image.paste("blue", (0, 4, 8, 8))
    return image.convert(mode)


@pytest.mark.parametrize(
    ("kind", "options"), [("PNG", {}), ("WEBP", {"lossless": True}), ("GIF", {}), ("JPEG", {"quality": 95})]
)
def test_the_formats_give_the_same_picture(kind, options):
    image = Image.new("RGB", (16, 16), (200, 30, 60))
    assert np.abs(seen(encoded(image, kind, **options)).astype(int) - np.asarray(image)).max() <= 3


@pytest.mark.parametrize("mode", ["P", "RGB", "RGBA"])
def test_colours_survive_their_mode(mode):
    assert np.array_equal(seen(encoded(quarters(mode))), np.asarray(quarters()))


def test_ink_is_turned_into_light():
    found = seen(encoded(Image.new("CMYK", (8, 8), (255, 255, 0, 0)), "JPEG", quality=95))  # cyan and magenta: blue
    assert found[..., 2].min() > 240
    assert found[..., :2].max() < 15


def test_grey_of_one_eight_and_sixteen_bits():
    assert seen(encoded(Image.new("1", (2, 2), 1))).tolist() == [[[255] * 3] * 2] * 2
    assert seen(encoded(Image.new("L", (2, 2), 77)))[0, 0].tolist() == [77] * 3
    values = np.array([[0, 0x4D00], [0x4DFF, 0xFFFF]], np.uint16)
    assert seen(encoded(Image.fromarray(values)))[..., 0].tolist() == [[0, 0x4D], [0x4D, 0xFF]]


@pytest.mark.parametrize(("mode", "colour"), [("RGBA", (255, 0, 0, 0)), ("LA", (0, 0))])
def test_what_is_transparent_is_white(mode, colour):
    assert (seen(encoded(Image.new(mode, (4, 4), colour))) == 255).all()


def test_a_transparent_palette_colour_is_white():
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 255, 0, 0])
    assert (seen(encoded(image, "PNG", transparency=1)) == 255).all()
    assert (seen(encoded(image, "PNG")) == [255, 0, 0]).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_camera_held_otherwise_gives_the_same_picture(orientation):
    back = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # what turns it the other way; Image.Transpose
    image = quarters() if orientation == 1 else quarters().transpose(Image.Transpose(back[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert np.array_equal(seen(encoded(image, "PNG", exif=exif)), np.asarray(quarters()))


def test_damaged_exif_says_nothing():
    content = encoded(quarters(), "JPEG", exif=b"Exif\0\0" + b"\xff" * 60_000)
    assert seen(content).shape == (8, 16, 3)


def test_an_animation_is_its_first_frame():
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue", "lime")]
    for kind, options in (("GIF", {}), ("WEBP", {"lossless": True}), ("PNG", {})):
        content = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
        assert (seen(content) == [255, 0, 0]).all()


def test_one_pixel_is_a_picture():
    assert seen(plain("red", (1, 1))).tolist() == [[[255, 0, 0]]]


@pytest.mark.parametrize("size", [(30_000, 30_000), (2**31 - 1, 2**31 - 1), (1, 2**31 - 1), (101, 100)])
def test_a_bomb_is_refused_by_its_header(size):
    assert refused(png_of_size(*size)) == pictures.TOO_LARGE
    with pytest.raises(BadPicture):
        check_header(png_of_size(*size), PIXELS)
    check_header(png_of_size(100, 100), PIXELS)


def test_a_bomb_in_webp_is_refused():
    size = (16383 - 1).to_bytes(3, "little") * 2
    frame = encoded(Image.new("RGB", (1, 1)), "WEBP", lossless=True)[12:]
    body = b"WEBPVP8X" + struct.pack("<I", 10) + b"\0" * 4 + size + frame
    assert refused(b"RIFF" + struct.pack("<I", len(body)) + body) in (pictures.TOO_LARGE, pictures.DAMAGED)


def test_a_ribbon_is_refused():
    assert refused(plain("red", (201, 1))) == pictures.TOO_NARROW
    assert seen(plain("red", (200, 1))).shape == (1, 200, 3)


def test_what_is_no_picture():
    for content in (
        b"no picture at all",
        b"\0" * 1000,
        encoded(quarters(), "TIFF"),
        encoded(quarters(), "BMP"),
        b"%PDF-1.7",
    ):
        assert refused(content) == pictures.NO_PICTURE


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF"])
def test_what_breaks_off_is_refused(kind):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    content = encoded(Image.fromarray(noise), kind)
    if kind != "WEBP":  # whose lengths are all in its header
        check_header(content[: len(content) // 2], PIXELS)
    assert refused(content[: len(content) // 2]) == pictures.DAMAGED


def test_a_large_profile_is_no_crash():
    profile = encoded(quarters(), "JPEG", icc_profile=os.urandom(3 << 20))
    assert seen(profile).shape == (8, 16, 3)
    info = PngImagePlugin.PngInfo()
    info.add(b"zTXt", b"name\0\0" + zlib.compress(b"\0" * (8 << 20)))
    with suppress(BadPicture):
        seen(encoded(quarters(), "PNG", pnginfo=info))


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["PNG", "JPEG", "WEBP", "GIF"]), st.data())
def test_bytes_that_flip_give_a_picture_or_a_reason(kind, data):
    content = bytearray(encoded(quarters(), kind))
    for at in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=8)):
        content[at] = data.draw(st.integers(0, 255))
    with suppress(BadPicture):
        image = decode(bytes(content), PIXELS)
        assert image.mode == "RGB"
        assert image.width * image.height <= PIXELS


def test_files_that_give_nothing(tmp_path, monkeypatch):
    def reason(location):
        with pytest.raises(BadPicture) as found:
            read_picture(str(location))
        return str(found.value)

    (tmp_path / "empty.png").touch()
    os.mkfifo(tmp_path / "pipe.png")  # would never end
    (tmp_path / "long.png").write_bytes(b"x" * 100)
    assert reason(tmp_path / "none.png") == pictures.MISSING
    assert reason(tmp_path / "empty.png/none.png") == pictures.NO_FILE
    assert reason(tmp_path / "empty.png") == pictures.EMPTY
    assert reason(tmp_path / "pipe.png") == reason(tmp_path) == pictures.NO_FILE
    assert reason(f"{tmp_path}/a\0b") == pictures.NO_FILE
    assert read_picture(str(tmp_path / "long.png")) == b"x" * 100
    monkeypatch.setattr(pictures, "MOST_BYTES", 99)
    assert reason(tmp_path / "long.png") == pictures.TOO_LONG


def test_no_name_leaves_a_file_open(tmp_path):
    (tmp_path / "one.png").write_bytes(plain("red"))
    os.mkfifo(tmp_path / "pipe.png")
    before = len(os.listdir("/proc/self/fd"))
    for name in ("one.png", ".", "pipe.png", "none.png") * 3:
        with suppress(BadPicture):
            read_picture(str(tmp_path / name))
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_trouble_of_the_machine_is_no_missing_picture(tmp_path, monkeypatch, scheme):
    location = f"{scheme}{tmp_path}/one.png"
    (tmp_path / "one.png").write_bytes(plain("red"))

    def fail_with(number):
        def fail(*_, **__):
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(*((pictures.storage, "read") if scheme else (os, "open")), fail)

    for number in (errno.EMFILE, errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENOMEM):
        fail_with(number)
        with pytest.raises(UserError) as found:
            read_picture(location)
        assert str(found.value).startswith(
            f"{location}: cannot be read now ({os.strerror(number)}). Run the command again"
        )
    for number in (errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENAMETOOLONG, errno.ENXIO):
        fail_with(number)
        with pytest.raises(BadPicture, match=pictures.NO_FILE):
            read_picture(location)


@pytest.mark.parametrize("where", [(Image, "open"), (Image.Image, "convert"), (Image.Image, "getexif")])
def test_too_little_memory_is_no_damaged_picture(monkeypatch, where):
    content = encoded(quarters())

    def fail(*_, **__):
        raise MemoryError

    monkeypatch.setattr(*where, fail)
    with pytest.raises(MemoryError):
        decode(content, PIXELS)


def test_a_picture_by_uri(tmp_path):
    (tmp_path / "one.png").write_bytes(plain("red"))
    assert read_picture(f"file://{tmp_path}/one.png") == plain("red")
    with pytest.raises(BadPicture, match=pictures.MISSING):
        read_picture(f"file://{tmp_path}/two.png")
