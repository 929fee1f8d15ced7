"""Circles among a repository's files, found in their text before anything runs, and drawn.

Only imports that happen when a file is imported count: those inside functions and under ``TYPE_CHECKING`` do not.
"""

from __future__ import annotations

import ast
import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path

from mlflow_core.errors import PlanError

__all__ = ["refuse_cycles"]

Files = Mapping[str, tuple[Path, ast.Module]]
Edges = Mapping[str, Mapping[str, int]]


def refuse_cycles(files: Files, root: Path) -> None:
    """See that no file imports itself by way of others.

    Args:
        files: Module name -> file and its syntax tree.
        root: The folder that paths in the message start from.

    Raises:
        PlanError: There is a circle; it is drawn, with the lines of the imports.
    """
    edges = {name: _imports(name, file, tree, files) for name, (file, tree) in files.items()}
    circle = _circle(edges)
    if circle is None:
        return
    steps = [
        f"{files[one][0].relative_to(root)}:{edges[one][other]}" for one, other in itertools.pairwise(circle)
    ]
    steps.append(str(files[circle[-1]][0].relative_to(root)))
    raise PlanError(
        f"files import each other in a circle: {' -> '.join(steps)}",
        hint="Move what they share into a file that imports neither.",
    )


def _imports(name: str, file: Path, tree: ast.Module, files: Files) -> dict[str, int]:
    """The repository's modules that a file imports when it is imported, each with the line."""
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    found: dict[str, int] = {}
    for node in _at_import(tree.body):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        else:
            base = _absolute(node, package)
            targets = [
                f"{base}.{alias.name}" if f"{base}.{alias.name}" in files else base for alias in node.names
            ]
        for target in targets:
            if target in files and target != name:
                found.setdefault(target, node.lineno)
    return found


def _at_import(body: list[ast.stmt]) -> Iterator[ast.Import | ast.ImportFrom]:
    for node in body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from _at_import(node.orelse)
        elif isinstance(node, ast.If | ast.For | ast.While | ast.With | ast.Try | ast.ClassDef):
            blocks = [getattr(node, part, []) for part in ("body", "orelse", "finalbody")]
            blocks += [handler.body for handler in getattr(node, "handlers", [])]
            for block in blocks:
                yield from _at_import(block)


def _absolute(node: ast.ImportFrom, package: str) -> str:
    if not node.level:
        return node.module or ""
    parts = package.split(".")
    above = parts[: len(parts) - node.level + 1]
    return ".".join([*above, *([node.module] if node.module else [])])


def _circle(edges: Edges) -> list[str] | None:
    """The first circle found in the order of the files, its first module repeated at its end."""
    done: set[str] = set()

    def visit(name: str, path: list[str]) -> list[str] | None:
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return None
        for target in edges[name]:
            found = visit(target, [*path, name])
            if found:
                return found
        done.add(name)
        return None

    return next((found for name in edges if (found := visit(name, []))), None)
