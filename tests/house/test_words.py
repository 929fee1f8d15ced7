"""Words that say how this was made or where, rather than what it is, do not belong in it.

The patterns are put together from parts, so that this file passes its own test.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.house.repository import ROOT, our_files, shown

ANYWHERE = {
    "a worker of no kind that we have": r"(?<![-_])\b[Aa]" + r"gents?\b",
    "a numbered issue": r"\b[Ii]ss" + r"ue\s+#?\d+|\(#" + r"\d+\)",
    "a path of one machine": r"(?<![\w.])/(?:wo"
    + r"rk|ro"
    + r"ot|ho"
    + r"me/\w+|Us"
    + r"ers/\w+|tmp/br"
    + r"ief|opt/(?:wh"
    + r"eels|py"
    + r"pi))\b",
    "a package index's host": r"py"
    + r"pi\.org|python"
    + r"hosted|arti"
    + r"factory|gh"
    + r"cr\.io|docker"
    + r"\.io|qu"
    + r"ay\.io",
    "a tool of one workplace": r"\biss"
    + r"ues show\b|sha"
    + r"red/design|\bcl"
    + r"aude\b|anth"
    + r"ropic|open"
    + r"ai\b|chat"
    + r"gpt|co"
    + r"pilot",
    "work that was left": r"\bTO" + r"DO\b|\bFIX" + r"ME\b|\bXX" + r"X\b",
}
# SQLAlchemy's Session, pytest's scope and an HTTP library's pool are terms of art, which the metadata room needs.
IN_PROSE = {
    "a stretch of somebody's work": r"\b(?:this|that|another|each|every|earlier|later|next|previous|last|a) ses"
    + r"sions?\b"
}
METADATA = ROOT / "mlflow_core" / "metadata"
TEXT = (".py", ".md", ".toml", ".yml", ".yaml", ".txt", ".ini", ".sh", ".html", ".js", ".css", ".mako", "")
FILES = [path for path in our_files(*TEXT) if path.name != "LICENSE"]


def found(text: str, patterns: dict[str, str]) -> list[str]:
    """Line number, meaning and match of every place where a pattern matches."""
    return [
        f"{number}: {meaning}: {match.group()}"
        for number, line in enumerate(text.splitlines(), 1)
        for meaning, pattern in patterns.items()
        for match in re.finditer(pattern, line)
    ]


@pytest.mark.parametrize("path", FILES, ids=shown)
def test_a_file_speaks_of_the_product_and_not_of_its_making(path: Path) -> None:
    patterns = ANYWHERE if METADATA in path.parents else ANYWHERE | IN_PROSE

    assert found(path.read_text(), patterns) == []


@pytest.mark.parametrize(
    "line",
    [
        "the ag" + "ent wrote",
        "see iss" + "ue #12",
        "fixed (#" + "12)",
        "/wo" + "rk/main",
        "https://py" + "pi.org/simple",
        "in an earlier ses" + "sion",
        "# TO" + "DO later",
    ],
)
def test_each_kind_of_word_is_found(line: str) -> None:
    assert len(found(line, ANYWHERE | IN_PROSE)) == 1


@pytest.mark.parametrize(
    "line",
    ["with Session(engine) as session:", "User-Agent: x", "the issue is 2 rows", "a/work/b", "#123456"],
)
def test_terms_of_art_pass(line: str) -> None:
    assert found(line, ANYWHERE | IN_PROSE) == []


def test_the_root_is_the_repository() -> None:
    assert (ROOT / "pyproject.toml") in FILES
