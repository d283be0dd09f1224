"""Pictures for tests: small good ones, and files that only look like pictures."""

import io
import struct
import zlib
from typing import Any

from PIL import Image


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """A picture as the bytes of a file."""
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def plain(colour: str, size: tuple[int, int] = (8, 8), kind: str = "PNG") -> bytes:
    """A picture of one colour."""
    return encoded(Image.new("RGB", size, colour), kind)


def png_of_size(width: int, height: int) -> bytes:
    """A PNG whose header claims a size, with a few bytes of data."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )
