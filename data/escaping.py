"""Characters that command a terminal, or turn what is beside them round, as their escapes.

Names and values come from files that may be somebody else's; what is said of them must stay in its line and in its words.
"""

import re
import unicodedata

_JOINERS = "\u200c\u200d"  # belong to words and emoji
# Who speaks to a store, with what secret; and options of a connection. A secret may hold slashes.
_SECRETS = (
    (re.compile(r"\b([A-Za-z][A-Za-z0-9+.-]*:/*)[^\s/@:'\"]*:[^\s@'\"]*@"), r"\1***@"),
    (re.compile(r"\b([A-Za-z][A-Za-z0-9+.-]*://[^\s?'\"]*\?)[\w.-]+=[^\s'\"]*"), r"\1***"),
)


def visible(text: str, keep: str = "") -> str:
    """The text, with ``\\\\x1b`` in place of an escape, and so on.

    Args:
        text: any.
        keep: control characters that stay as they are.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escaped(one) if _commands(one) and one not in keep else one for one in text)


def redacted(text: str) -> str:
    """The text with ``***`` in place of what URIs in it hold of names, passwords and options of a connection."""
    if ":" in text:
        for pattern, known in _SECRETS:
            text = pattern.sub(known, text)
    return text


def _commands(character: str) -> bool:
    kind = unicodedata.category(character)
    return kind in ("Cc", "Zl", "Zp", "Cs") or (kind == "Cf" and character not in _JOINERS)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")
