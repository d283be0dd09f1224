"""The report's page: its templates, which escape all they are given but markup of their own, and how it writes numbers."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ...data.escaping import visible


def _shown(value: Any) -> Any:
    """What a template writes of a value: control characters as their escapes; markup as it is."""
    return value if hasattr(value, "__html__") else visible(str(value), keep="\n\t")


_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    finalize=_shown,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_NAMES = ("absent", "figure", "fold", "gates", "grouped_table", "paragraph", "subtitle", "table")
_PARTS = _TEMPLATES.get_template("parts.html").module
absent, figure, fold, gates, grouped_table, paragraph, subtitle, table = (getattr(_PARTS, name) for name in _NAMES)


def page(template: str, **values: Any) -> str:
    """A complete HTML document."""
    return _TEMPLATES.get_template(template).render(values)


def number(value: float | None, digits: int = 4) -> str:
    """``0.7312``, or a dash where there is none."""
    return "–" if value is None else f"{value:.{digits}f}"


def count(value: float | None) -> str:
    """``1,234,567``, or a dash."""
    return "–" if value is None else f"{value:,.0f}"


def duration(seconds: float) -> str:
    """``42 s``, ``12 min 5 s`` or ``3 h 7 min``."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    minutes, seconds = divmod(seconds, 60)
    return f"{minutes} min {seconds} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
