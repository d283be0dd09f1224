"""Progress bars of long work, in a terminal and in a notebook."""

from io import StringIO
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.progress import Progress, ProgressColumn

_COLUMNS = 160
_PAGE = '<pre style="white-space:pre;margin:0;line-height:normal">{code}</pre>'


def has_bars(console: Console) -> bool:
    """Whether what a console writes to can show a bar that moves."""
    return console.is_terminal or console.is_jupyter


def progress_bars(console: Console, *columns: ProgressColumn) -> Progress:
    """Bars with these columns; in a notebook they are shown in the cell that waits for the work."""
    if not console.is_jupyter:
        return Progress(*columns, console=console, expand=True)
    bars = Progress(*columns, console=console)
    # It writes to no console: rich's would show an empty line when it ends.
    silent = Console(quiet=True, force_jupyter=False)
    bars.live = _InCell(get_renderable=bars.get_renderable, console=silent, refresh_per_second=4)
    return bars


_shown: dict[int, Any] = {}  # number of the cell that runs -> what it shows, one bar after another in the same place


class _InCell(Live):
    """Shown by IPython alone; rich's own way needs widgets."""

    def refresh(self) -> None:
        from IPython import get_ipython  # where there is a notebook, there is IPython
        from IPython.display import display

        page = Console(file=StringIO(), record=True, width=_COLUMNS, force_jupyter=False)
        page.print(self.get_renderable())
        html, text = page.export_html(inline_styles=True, code_format=_PAGE, clear=False), page.export_text()
        shown = {"text/html": html, "text/plain": text.rstrip()}
        cell = getattr(get_ipython(), "execution_count", 0)
        if cell in _shown:
            _shown[cell].update(shown, raw=True)
        else:
            _shown.clear()
            _shown[cell] = display(shown, raw=True, display_id=True)

    def stop(self) -> None:
        """Shows how it ended; rich leaves that to its widget."""
        if self.is_started:
            self.refresh()
        super().stop()
