"""What the site changes in the pages of the repository: the README is its first page, and the code is not on it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]


def on_files(files: Files, config: Any) -> Files:
    """The README as the first page, its links as from `docs/`."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    text = re.sub(r"\]\(docs/", "](", text)
    text = re.sub(r"\]\((?!https?:|[\w-]+\.md|images/|#)", "](../", text)
    text = text.replace("](CONTRIBUTING.md)", "](../CONTRIBUTING.md)")
    files.append(File.generated(config, "index.md", content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """A link to a file outside of `docs/` becomes its name: the site has the pages only."""

    def named(link: re.Match[str]) -> str:
        target = link[2].split("#")[0]
        if not (ROOT / "docs" / target).exists():
            raise PluginError(f"{page.file.src_path}: no file {target}")
        shown, path = link[1], target.removeprefix("../")
        return shown if path in shown else f"{shown} (`{path}`)"

    return re.sub(r"\[([^\]]+)\]\((\.\./[^)]+)\)", named, markdown)
