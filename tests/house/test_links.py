"""Links of the pages that MkDocs does not build (it checks its own), and of decisions that its menu leaves out."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.house.repository import ROOT, our_files, shown

DOCS = ROOT / "docs"
LINK = re.compile(r"\[[^\]\n]*(?:\n[^\]\n]*)?\]\(([^)\s]+)\)")
PAGES = [path for path in our_files(".md") if DOCS not in path.parents]
DECISIONS = sorted((DOCS / "adr").glob("0*.md"))


def prose(path: Path) -> str:
    """The page without its code, where brackets mean something else."""
    return re.sub(r"```.*?```|`[^`\n]*`", "", path.read_text(), flags=re.DOTALL)


def anchors(path: Path) -> set[str]:
    """The anchors that headings get: lower case, punctuation dropped, spaces to hyphens."""
    headings = re.findall(r"^#+\s+(.*)$", prose(path), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}


def broken_links(path: Path) -> list[str]:
    """Links to files that are not there or to headings that a page does not have."""
    broken = []
    for link in LINK.findall(prose(path)):
        if re.match(r"[a-z]+:", link):
            continue
        target, _, anchor = link.partition("#")
        file = (path.parent / target).resolve() if target else path
        if not file.exists() or (anchor and file.suffix == ".md" and anchor not in anchors(file)):
            broken.append(link)
    return broken


@pytest.mark.parametrize("path", PAGES, ids=shown)
def test_every_link_of_a_page_leads_somewhere(path: Path) -> None:
    assert broken_links(path) == []


def test_a_link_to_nowhere_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# One\n[a](#one) [b](#two) [c](page.md) [d](gone.md) [e](https://example.org) `[f](code.md)`\n"
    )

    assert broken_links(page) == ["#two", "gone.md"]


@pytest.mark.parametrize("path", DECISIONS, ids=shown)
def test_every_decision_says_status_context_decision_and_consequences_and_is_listed(path: Path) -> None:
    text = path.read_text()

    assert re.match(rf"# {int(path.name[:4])}\. \S", text)
    assert re.search(r"^Status: (proposed|accepted|replaced by \[.+\]\(.+\))", text, flags=re.MULTILINE)
    assert [part for part in ("Context", "Decision", "Consequences") if f"\n## {part}\n" not in text] == []
    assert f"]({path.name})" in (DOCS / "adr" / "index.md").read_text()
