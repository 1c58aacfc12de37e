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
        found = (ROOT / "docs" / page.file.src_path).parent / link[2].split("#")[0]
        if not found.exists():
            raise PluginError(f"{page.file.src_path}: no file {link[2]}")
        path = found.resolve().relative_to(ROOT.resolve()).as_posix()
        if path.startswith("docs/"):
            return link[0]
        return link[1] if path in link[1] else f"{link[1]} (`{path}`)"

    return re.sub(r"\[([^\]]+)\]\((\.\./[^)]+)\)", named, markdown)
