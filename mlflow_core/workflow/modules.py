"""The project's modules as syntax trees: which statements give a top-level name its value, and where a name comes from.

Nothing is imported or run. What is installed, and what cannot be found below the project's folders, is not here.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

__all__ = [
    "Module",
    "Modules",
    "Symbol",
    "bound_names",
    "declares_step",
    "dotted",
    "for_import",
    "import_targets",
    "imported_names",
    "parameters",
    "root_of",
]

_NOT_OURS: Final = ("site-packages", "dist-packages", "node_modules", "__pycache__")
_PACKAGE: Final = "mlflow_core"  # never the project's, also where the project's folder is a checkout of it
_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)

_OF_A_SCRIPT: Final = ("__name__ == '__main__'", "'__main__' == __name__")
_OF_A_CHECKER: Final = "TYPE_CHECKING"

Symbol = tuple[str, str]
"""A module and a name at its top level; the name ``*`` is the whole module."""


@dataclass(frozen=True)
class Module:
    """One file.

    Attributes:
        name: Its import name.
        tree: Its statements.
        bindings: Top-level name -> the statements that bind or change it, in order.
        stars: Modules that ``from ... import *`` names, in order.
        is_package: Whether it is an ``__init__.py``.
    """

    name: str
    tree: ast.Module
    bindings: dict[str, list[ast.stmt]] = field(default_factory=dict)
    stars: tuple[str, ...] = ()
    is_package: bool = False


class Modules:
    """The modules below the project's folders, each read once.

    Args:
        project: The project's folders; entries of the import path that lie in them count too.
    """

    def __init__(self, project: Iterable[Path]) -> None:
        folders = [one.resolve() for one in project]
        inside = [one for entry in sys.path if entry and _lies_in(one := Path(entry).resolve(), folders)]
        self._roots = tuple(dict.fromkeys([*folders, *inside]))
        self._read: dict[str, Module | None] = {}

    def module(self, name: str) -> Module | None:
        """Return a module of the project; None where it is not the project's, or only a folder."""
        if name not in self._read:
            self._read[name] = self._find(name)
        return self._read[name]

    def resolve(self, module: str, chain: Sequence[str]) -> Symbol | None:
        """Say what a dotted name means in a module.

        Args:
            module: The module's import name.
            chain: The name's parts; none is the module itself.

        Returns:
            The symbol of the project that it leads to, or None.
        """
        return self._resolve(module, tuple(chain), frozenset())

    def _resolve(self, name: str, chain: tuple[str, ...], seen: frozenset[tuple[str, str]]) -> Symbol | None:
        module = self.module(name)
        if not chain:
            return None if module is None else (name, "*")
        head, rest = chain[0], chain[1:]
        statements = () if module is None or (name, head) in seen else module.bindings.get(head, ())
        if module is not None and statements:
            target = _imported(statements, head, module)
            if target is None:
                return (name, head)
            return self._resolve(target[0], (*target[1], *rest), seen | {(name, head)})
        for star in () if module is None or (name, head) in seen else module.stars:
            if (found := self._resolve(star, chain, seen | {(name, head)})) is not None:
                return found
        if (module is None or module.is_package) and self._leads_on(f"{name}.{head}"):
            return self._resolve(f"{name}.{head}", rest, seen)
        return (name, "__getattr__") if module is not None and "__getattr__" in module.bindings else None

    def _leads_on(self, name: str) -> bool:
        """Whether a name is a module of the project's, or a folder in which one may be."""
        if name.partition(".")[0] == _PACKAGE:
            return False
        places = [root.joinpath(*name.split(".")) for root in self._roots]
        return self.module(name) is not None or any(one.is_dir() for one in places)

    def _find(self, name: str) -> Module | None:
        for root in () if name.partition(".")[0] == _PACKAGE else self._roots:
            base = root.joinpath(*name.split("."))
            for file in (base / "__init__.py", base.with_name(f"{base.name}.py")):
                if file.is_file():
                    return _module(name, file)
        return None


def _lies_in(place: Path, folders: Iterable[Path]) -> bool:
    for folder in folders:
        if place.is_relative_to(folder):
            parts = place.relative_to(folder).parts
            if not any(part in _NOT_OURS or part.startswith(".") for part in parts):
                return True
    return False


def _module(name: str, file: Path) -> Module | None:
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError, OSError):
        return None  # whoever imports it is told
    found = Module(name, tree, is_package=file.name == "__init__.py")
    stars: list[str] = []
    for statement in tree.body:
        changed = (*_changed(statement), *_registered_with(statement, found))
        for bound in dict.fromkeys(one for one in (*bound_names([statement]), *changed) if one):
            found.bindings.setdefault(bound, []).append(statement)
        if isinstance(statement, ast.ImportFrom) and any(one.name == "*" for one in statement.names):
            stars.append(_base(statement, found))
    return Module(name, tree, found.bindings, tuple(stars), found.is_package)


def _changed(statement: ast.stmt) -> Iterator[str]:
    """The names whose values a statement may change without binding them.

    ``TABLE["a"] = 1``, ``del TABLE["a"]``, ``TABLE.update(...)``, ``fill(TABLE)``, also inside ``for`` and ``if``.
    """
    for one in _run_with(statement):
        targets: list[ast.expr] = []
        if isinstance(one, ast.Assign | ast.Delete):
            targets = one.targets
        elif isinstance(one, ast.AugAssign | ast.AnnAssign):
            targets = [one.target]
        elif isinstance(one, ast.Expr) and isinstance(one.value, ast.Call):
            call = one.value
            targets = [call.func]
            yield from map(root_of, (*call.args, *(given.value for given in call.keywords)))
        yield from (root_of(target) for target in targets if not isinstance(target, ast.Name))


def _run_with(statement: ast.stmt) -> Iterator[ast.stmt]:
    """A statement and those inside that run when it does, of which none is for a script alone."""
    yield statement
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return
    if isinstance(statement, ast.If) and ast.unparse(statement.test) in _OF_A_SCRIPT:
        return
    for node in ast.iter_child_nodes(statement):
        if isinstance(node, ast.stmt):
            yield from _run_with(node)
        elif isinstance(node, ast.ExceptHandler | ast.match_case):
            for inside in node.body:
                yield from _run_with(inside)


def _registered_with(statement: ast.stmt, module: Module) -> Iterator[str]:
    """What of the same module a definition gives itself to: ``@size.register``."""
    for decorator in getattr(statement, "decorator_list", ()):
        called = decorator.func if isinstance(decorator, ast.Call) else decorator
        before = module.bindings.get(root_of(called), []) if isinstance(called, ast.Attribute) else []
        if not all(isinstance(one, ast.Import | ast.ImportFrom) for one in before):
            yield root_of(called)


def root_of(value: ast.expr) -> str:
    """The name that an attribute or item is taken of; nothing for what does not start with one."""
    while isinstance(value, ast.Attribute | ast.Subscript | ast.Starred):
        value = value.value
    return value.id if isinstance(value, ast.Name) else ""


def bound_names(body: Iterable[ast.AST]) -> Iterator[str]:
    """Yield the names that statements bind in their own scope, not in those of functions and classes inside."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Import):
            yield from (one.asname or one.name.partition(".")[0] for one in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (one.asname or one.name for one in node.names if one.name != "*")
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store | ast.Del):
            yield node.id
        elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
            yield node.name
        elif isinstance(node, ast.MatchMapping) and node.rest:
            yield node.rest
        if isinstance(node, _COMPREHENSIONS):
            yield from _bound_from_within(node)
        elif not isinstance(node, _SCOPES):
            yield from bound_names(ast.iter_child_nodes(node))


def _bound_from_within(node: ast.AST) -> Iterator[str]:
    """The names that ``:=`` in a comprehension binds around it."""
    for one in ast.iter_child_nodes(node):
        if isinstance(one, ast.NamedExpr):
            yield one.target.id
        if not isinstance(one, ast.Lambda):
            yield from _bound_from_within(one)


def for_import(statement: ast.If) -> bool:
    """Whether a block is of use when its module is imported: it is not for a script alone, nor for a type checker."""
    test = ast.unparse(statement.test)
    return test not in _OF_A_SCRIPT and test.rpartition(".")[2] != _OF_A_CHECKER


def parameters(arguments: ast.arguments) -> list[str]:
    """The names of a function's parameters."""
    named = (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)
    return [one.arg for one in (*named, arguments.vararg, arguments.kwarg) if one is not None]


def dotted(node: ast.expr) -> tuple[str, ...]:
    """``a.b.c`` as its parts; nothing for what does not start with a name."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return (node.id, *reversed(parts)) if isinstance(node, ast.Name) else ()


def declares_step(decorator: ast.expr, module: Module) -> bool:
    """Whether a decorator is this package's ``step``, under whatever name it was imported."""
    chain = dotted(decorator.func if isinstance(decorator, ast.Call) else decorator)
    for statement in module.bindings.get(chain[0], []) if chain else []:
        if isinstance(statement, ast.Import | ast.ImportFrom):
            for bound, base, names in import_targets(statement, module):
                parts = (*base.split("."), *names, *chain[1:])
                if bound == chain[0] and parts[0] == _PACKAGE and parts[-1] == "step":
                    return True
    return False


def imported_names(node: ast.Import | ast.ImportFrom, module: Module) -> Iterator[str]:
    """Yield the import names of all that an import may import: the modules that it names, and what may be one."""
    if isinstance(node, ast.Import):
        yield from (one.name for one in node.names)
    else:
        base = _base(node, module)
        yield base
        yield from (f"{base}.{one.name}" for one in node.names)


def import_targets(
    node: ast.Import | ast.ImportFrom, module: Module
) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Yield for each name that an import binds: the name, the module it leads to, and the names to follow from there."""
    if isinstance(node, ast.Import):
        for one in node.names:
            whole = one.name if one.asname else one.name.partition(".")[0]
            yield one.asname or whole, whole, ()
    else:
        base = _base(node, module)
        for one in node.names:
            if one.name != "*":
                yield one.asname or one.name, base, (one.name,)


def _imported(
    statements: Sequence[ast.stmt], name: str, module: Module
) -> tuple[str, tuple[str, ...]] | None:
    """Where a name leads that is bound by plain imports alone."""
    if not all(isinstance(one, ast.Import | ast.ImportFrom) for one in statements):
        return None
    last = statements[-1]
    assert isinstance(last, ast.Import | ast.ImportFrom)
    return next((base, names) for bound, base, names in import_targets(last, module) if bound == name)


def _base(node: ast.ImportFrom, module: Module) -> str:
    if not node.level:
        return node.module or ""
    parts = module.name.split(".")
    above = parts[: len(parts) - node.level + (1 if module.is_package else 0)]
    return ".".join([*above, *([node.module] if node.module else [])])
