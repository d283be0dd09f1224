from pathlib import Path

import pytest

from foundrank.data.errors import UserError
from foundrank.data.storage.json_documents import Shape, parse_document, parse_shape, read_document


class Thing(Shape):
    name: str
    count: int
    share: float | None = None


def test_what_is_right_comes_back_as_it_is(tmp_path: Path):
    (tmp_path / "a.json").write_text('{"name": "ü", "count": 1, "more": [null]}', encoding="utf-8")
    assert read_document(tmp_path / "a.json", Thing, "Go.") == {"name": "ü", "count": 1, "more": [None]}
    assert read_document(tmp_path / "b.json", Thing, "Go.", {}) == {}
    assert parse_document(b"[1, 2]", "x", list[int], "Go.") == [1, 2]
    assert parse_shape(b'{"name": "a", "count": 1}', "x", Thing, "Go.") == Thing(name="a", count=1)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "not valid JSON: EOF"),
        (b"{", "not valid JSON: EOF"),
        (b'{"name": "\xff", "count": 1}', "not valid JSON: invalid unicode"),
        (b"\xff\xfe", "not valid JSON"),
        (b"[" * 100_000, "not valid JSON: recursion limit"),
        (b'{"name": "a", "count": ' + b"1" * 5000 + b"}", "."),
        (b"null", "is damaged \\(Input should be"),
        (b"[]", "is damaged \\(Input should be an object"),
        (b'{"name": "a"}', "is damaged \\(count: Field required"),
        (b'{"name": null, "count": 1}', "is damaged \\(name: Input should be a valid string"),
        (b'{"name": "a", "count": "1"}', "is damaged \\(count: Input should be a valid integer"),
        (b'{"name": "a", "count": true}', "is damaged \\(count: Input should be a valid integer"),
        (b'{"name": "a", "count": 1.5}', "is damaged \\(count: Input should be a valid integer"),
        (b'{"name": "a", "count": 1, "share": "x"}', "is damaged \\(share: Input should be a valid number"),
    ],
)
def test_anything_else_is_told(tmp_path: Path, content: bytes, told: str):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(UserError, match=f"a\\.json: {told}.*Go\\."):
        read_document(tmp_path / "a.json", Thing, "Go.")
