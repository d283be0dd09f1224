"""Pictures: reading their bytes and decoding them, whatever the file turns out to be.

A picture that cannot be had is an ordinary thing in a catalog, so that all that may be wrong with one is a `BadPicture` with
one of a few reasons. Sizes are checked by the header, before anything is decoded.
"""

import errno
import hashlib
import io
import os
import stat
import warnings

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError, features

from ..errors import UserError
from ..storage import storage
from ..storage.file_systems import StorageError, is_uri
from .content import DIGEST_BYTES, Located

MOST_BYTES = 1 << 27  # of a file
MOST_ASPECT = 200  # resized to a short side of 224, a longer one would be larger than what is read

FORMATS = {
    name: shown
    for name, (feature, shown) in {
        "JPEG": ("jpg", "JPEG"),
        "PNG": ("zlib", "PNG"),
        "WEBP": ("webp", "WebP"),
        "GIF": (None, "GIF"),
    }.items()
    if feature is None or features.check(feature)
}
"""What is read, of all that Pillow opens, and what people call it; what this Pillow was built without is missing."""

MISSING = "no such file"
EMPTY = "an empty file"
NO_FILE = "no file that can be read"
TOO_LONG = f"more than {MOST_BYTES >> 20} MiB"
NO_PICTURE = f"no {', '.join(FORMATS.values())}"
TOO_LARGE = "more pixels than image.max_pixels"
TOO_NARROW = f"more than {MOST_ASPECT} times as long as wide"
DAMAGED = "damaged"

_OF_FILE = (
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EACCES,
    errno.EPERM,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.ENXIO,
)
"""Errors that say something of the file; all others are the machine's, or its network's, and may be gone a minute later."""

_ORIENTATION = 0x0112  # EXIF's
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# The limit here is the experiment's; Pillow's own would only warn, on the terminal.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


class BadPicture(Exception):
    """A picture that cannot be had; ``str`` of it is one of the reasons of this module."""


def read_picture(location: str) -> bytes:
    """The bytes of a picture's file.

    Args:
        location: of a regular file, or in an object store.

    Raises:
        BadPicture: there is none, or it is empty or larger than `MOST_BYTES`.
        UserError: this machine cannot read it now; `StorageError`: an object store cannot be reached or refuses.
    """
    content = _read_object(location) if is_uri(location) else _read_file(location)
    if content is None:
        raise BadPicture(MISSING)
    if not content:
        raise BadPicture(EMPTY)
    if len(content) > MOST_BYTES:
        raise BadPicture(TOO_LONG)
    return content


def _read_file(path: str) -> bytes | None:
    try:
        # A name in a catalog may be that of a pipe, which would never end.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise BadPicture(NO_FILE)
            with os.fdopen(descriptor, "rb", closefd=False) as stream:
                return stream.read(MOST_BYTES + 1)
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:  # not ours to read; a name with a zero byte in it
        raise _told(path, error) from error


def _read_object(uri: str) -> bytes | None:
    try:
        return storage.read(uri, MOST_BYTES + 1)
    except StorageError:
        raise
    except (UserError, OSError, ValueError) as error:  # a folder, or a name that holds options of a connection
        raise _told(uri, error) from error


def _told(location: str, error: Exception) -> BadPicture | UserError:
    """What came of reading: a picture that cannot be had, or trouble that says nothing of it."""
    if not isinstance(error, OSError) or error.errno is None or error.errno in _OF_FILE:
        return BadPicture(NO_FILE)
    return UserError(
        location,
        f"cannot be read now ({error.strerror or error})",
        "Run the command again; if it says so again, copy the file again or look after the disk or the network it is on.",
    )


def digest_of(content: bytes) -> bytes:
    """The BLAKE2b digest, of 16 bytes, by which a picture is known."""
    return hashlib.blake2b(content, digest_size=DIGEST_BYTES).digest()


def read_again(picture: Located) -> bytes:
    """The bytes of a picture that was looked at before.

    Raises:
        UserError: they are others now, or cannot be read now.
        StorageError: an object store cannot be reached or refuses.
    """
    try:
        content = read_picture(picture.location)
    except BadPicture:
        content = b""
    if digest_of(content) != picture.digest:
        raise UserError(picture.location, "was changed while it was read", "Run the command again.")
    return content


def check_header(content: bytes, max_pixels: int) -> None:
    """Looks at a picture without decoding it.

    Raises:
        BadPicture: it is of another format, or has too many pixels.
    """
    _open(content, max_pixels).close()


def decode(content: bytes, max_pixels: int) -> Image.Image:
    """A picture as people see it: of an animation the first frame, upright (EXIF), in RGB, over white where it is transparent.

    Colour profiles are not applied; of 16 bits a value the upper 8 are kept.

    Args:
        content: bytes of a file.
        max_pixels: of the whole picture, checked before it is decoded.

    Returns:
        mode ``RGB``.

    Raises:
        BadPicture: it is of another format, has too many pixels, or breaks off or is damaged.
        MemoryError: there is too little of it, which says nothing of the picture.
    """
    with _open(content, max_pixels) as image:
        try:
            image.load()
            return _upright(_rgb(image), _orientation(image))
        except MemoryError:
            raise
        except Exception as error:  # decoders raise whatever a broken file leads them to
            raise BadPicture(DAMAGED) from error


def _open(content: bytes, max_pixels: int) -> ImageFile.ImageFile:
    try:
        image = Image.open(io.BytesIO(content), formats=list(FORMATS))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise BadPicture(TOO_LARGE) from error
    except UnidentifiedImageError as error:
        raise BadPicture(NO_PICTURE) from error
    except MemoryError:
        raise
    except Exception as error:  # a header that is one of these formats', and wrong
        raise BadPicture(DAMAGED) from error
    width, height = image.size
    if width * height > max_pixels:
        raise BadPicture(TOO_LARGE)
    if max(width, height) > MOST_ASPECT * min(width, height):
        raise BadPicture(TOO_NARROW)
    return image


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # grey of 16 bits, which Pillow would clip at 255
        return Image.fromarray(np.clip(np.asarray(image, np.int64) >> 8, 0, 255).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        ground = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(ground, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except MemoryError:
        raise
    except Exception:  # EXIF that is damaged says nothing
        return 1


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    turn = _UPRIGHT.get(orientation)
    return image if turn is None else image.transpose(turn)
