"""The one exception a user is meant to read."""

import difflib
from collections.abc import Iterable
from pathlib import Path

from .escaping import redacted, visible


class UserError(Exception):
    """A mistake in what the user gave us: where it is, what is wrong, and what to do about it.

    The command line prints it in one paragraph without a traceback and exits with status 2.

    Args:
        where: the file, field or row, e.g. ``experiment.yaml: domains.shop.tasks.click.label``.
        what: what is wrong there, naming the bad value.
        remedy: what to change.
    """

    def __init__(self, where: str | Path, what: str, remedy: str):
        # One line each, whatever the names and values in it hold, and no password.
        self.where, self.what, self.remedy = (visible(redacted(str(part))) for part in (where, what, remedy))
        super().__init__(f"{self.where}: {self.what}. {self.remedy}")

    def __reduce__(self):
        # Errors travel between ranks pickled, and Exception's own way would pass one argument where three are needed.
        return type(self), (self.where, self.what, self.remedy)


def one_line(error: BaseException) -> str:
    """What an error says, without its line breaks; or its name."""
    return " ".join(str(error).split()) or type(error).__name__


def nearest(name: str, known: Iterable[str]) -> str:
    """`` Did you mean 'x'?``-sentence for the known name closest to ``name``, or the list of known names."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if close:
        return f"Did you mean '{close[0]}'?"
    return f"Known: {', '.join(sorted(known))}." if known else "None are known here."
