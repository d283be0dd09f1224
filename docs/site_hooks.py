"""Hooks of MkDocs: the package put together for mkdocstrings, and links that leave docs/."""

import os
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def lay_out_package() -> None:
    """Lays the package out as it is installed: mkdocstrings reads files and knows nothing of setuptools' package-dir."""
    package = ROOT / "build/source/foundrank"
    package.mkdir(parents=True, exist_ok=True)
    for source in (*(ROOT / "dist/api").glob("*.py"), ROOT / "data", ROOT / "model", ROOT / "dist"):
        link = package / source.name
        if not link.is_symlink():
            link.symlink_to(source)


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """The page, with relative links to files outside docs/ as addresses in the repository."""
    folder = os.path.dirname(f"docs/{page.file.src_uri}")

    def led(link: re.Match[str]) -> str:
        path = os.path.normpath(os.path.join(folder, link[1]))
        return link[0] if path.startswith("docs/") else f"]({config['repo_url']}/blob/main/{path})"

    return re.sub(r"\]\((\.\./[^)\s]+)\)", led, markdown)


lay_out_package()  # now, for mkdocstrings looks for the folder before any hook of MkDocs is called
