"""Schedules of CronJobs: five fields, as Kubernetes reads them."""

import re

from ...data.errors import UserError

_MACROS = {"@hourly", "@daily", "@midnight", "@weekly", "@monthly", "@yearly", "@annually"}
_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_DAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
# Name, first and last number, names of numbers from the first on. Kubernetes knows no Sunday 7.
_FIELDS: tuple[tuple[str, int, int, tuple[str, ...]], ...] = (
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day of the month", 1, 31, ()),
    ("month", 1, 12, _MONTHS),
    ("day of the week", 0, 6, _DAYS),
)
_REMEDY = "Write e.g. --schedule '30 3 * * *', half past three every night (in the cluster's time zone)."


def check_schedule(schedule: str) -> None:
    """Makes sure that Kubernetes takes a schedule.

    Raises:
        UserError: it does not; the field and its range are named.
    """
    if schedule in _MACROS:
        return
    where = f"--schedule '{schedule}'"
    fields = schedule.split()
    if len(fields) != len(_FIELDS):
        raise UserError(where, f"has {len(fields)} field(s), where a schedule has five", _REMEDY)
    for text, (name, first, last, names) in zip(fields, _FIELDS, strict=True):
        for part in text.split(","):
            if not _is_part(part, first, last, names):
                raise UserError(where, f"has '{part}' as {name}, which goes from {first} to {last}", _REMEDY)


def _is_part(part: str, first: int, last: int, names: tuple[str, ...]) -> bool:
    """Whether it is ``*``, a value or a range, each perhaps with a step."""
    matched = re.fullmatch(r"(?:\*|(\w+)(?:-(\w+))?)(?:/(\d+))?", part, re.ASCII)
    if matched is None or (matched[3] is not None and not 1 <= int(matched[3]) <= last):
        return False
    numbers = [_number(one, first, names) for one in (matched[1], matched[2]) if one is not None]
    return all(first <= one <= last for one in numbers) and numbers == sorted(numbers)


def _number(text: str, first: int, names: tuple[str, ...]) -> int:
    if text.upper() in names:
        return first + names.index(text.upper())
    return int(text) if text.isdigit() else -1
