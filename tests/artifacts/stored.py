"""Folders to be stored, and files of a store that are looked at or damaged."""

from __future__ import annotations

from pathlib import Path

__all__ = ["a_folder", "damage", "files_in"]


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def damage(path: Path, data: bytes) -> None:
    path.chmod(0o644)
    path.write_bytes(data)


def a_folder(root: Path) -> Path:
    folder = root / "report"
    (folder / "plots").mkdir(parents=True)
    (folder / "index.html").write_text("<h1>report</h1>")
    (folder / "plots" / "roc.svg").write_text("<svg/>")
    (folder / "plots" / "copy.svg").write_text("<svg/>")
    return folder
