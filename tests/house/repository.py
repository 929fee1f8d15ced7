"""What the tests about the repository look at: its root, and the files that are ours.

Not git's view: a source archive must pass the same tests, so folders that tools make are left out by name.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "mlflow_core"

_MADE_BY_TOOLS = {
    ROOT / name for name in ("site", "dist", "shared", "feature_repo/data", "benchmarks/results")
}
_OUR_HIDDEN = {".ci", ".gitignore", ".pre-commit-config.yaml"}


def our_files(*suffixes: str, under: Path = ROOT) -> Iterator[Path]:
    """Files under a folder with one of these suffixes (all files without any), sorted, tools' output left out."""
    for path in sorted(under.iterdir()):
        if path.name.startswith(".") and path.name not in _OUR_HIDDEN:
            continue
        if path.is_dir():
            if path not in _MADE_BY_TOOLS and path.name != "__pycache__":
                yield from our_files(*suffixes, under=path)
        elif not suffixes or path.suffix in suffixes:
            yield path


def shown(path: Path) -> str:
    """The path as a reader knows it, from the root on."""
    return path.relative_to(ROOT).as_posix()
