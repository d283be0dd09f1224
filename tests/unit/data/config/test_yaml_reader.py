"""YAML that somebody else wrote: bounded, and every mistake told in a line."""

import pytest

from foundrank.data.config.yaml_reader import read_yaml
from foundrank.data.errors import UserError

BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(11)
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (BOMB, "more than 200,000 values"),
        ("a: &a [*a]", "part of"),
        ("a: &a {b: *a}", "part of"),
        ("a: " + "[" * 2000 + "]" * 2000, "levels deep"),
        ("a: " + "[" * 200_000, "levels deep"),
        ("a: " + "{b: " * 100 + "1" + "}" * 100, "levels deep"),
        ("x" * (1 << 23), "longer than"),
        ("a: 2026-02-30", "not valid YAML"),
        ("a: 9999-99-99", "not valid YAML"),
        ("a: !!int x", "not valid YAML"),
        ("a: !!float x", "not valid YAML"),
        ("a: !!bool x", "not valid YAML"),
        ("a: !!timestamp x", "not valid YAML"),
        ("a: !!binary x", "not valid YAML"),
        ("a: !!set [x]", "not valid YAML"),
        ("a: !!python/object/apply:os.system [x]", "not valid YAML"),
        ("a: " + "9" * 5000, "not valid YAML"),
        ("a: *b", "not valid YAML"),
        ("a: 1\n---\nb: 1", "not valid YAML"),
        (b"a: \xff", "not valid YAML"),
        ("? [a]\n: 1", "unhashable"),
        ("no: 1", 'in quotes: "no"'),
        ("a: {1: 2}", 'in quotes: "1"'),
        ("a: {2026-01-01: 2}", 'in quotes: "2026-01-01"'),
        ("a: {~: 2}", 'in quotes: "~"'),
    ],
)
def test_what_is_refused(text, words):
    with pytest.raises(UserError) as error:
        read_yaml(text, "file.yaml", "Correct it.")
    assert words in str(error.value)
    assert len(str(error.value)) < 1000


def test_what_is_read():
    assert read_yaml('"no": &a [1, x]\nb: {<<: {c: 1}, d: *a}\n', "x", "y") == {
        "no": [1, "x"],
        "b": {"c": 1, "d": [1, "x"]},
    }
    assert read_yaml("", "x", "y") is None
