"""What a module of the project does while it is imported, beyond giving its own names their values.

Which statements give a name its value is told by ``mlflow_core.workflow.modules``. Here is the rest: calls that stand
alone, what is set in an object of another module or in one that may have two names, calls of functions of the project
that set something outside themselves, decorators that are such functions, classes that their base collects. What a
library does when its call gives a name its value is not known, and not counted.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from typing import Final

from mlflow_core.workflow.modules import (
    Module,
    Modules,
    Symbol,
    bound_names,
    declares_step,
    dotted,
    for_import,
    imported_names,
    parameters,
    root_of,
)

__all__ = ["IMPORT", "Effects"]

IMPORT: Final = "<import>"
"""Stands for all that a module does while it is imported, where a name of it would stand."""

_CHANGING: Final = {
    *("add", "append", "appendleft", "extend", "insert", "setdefault", "update"),
    *("clear", "discard", "pop", "popitem", "remove", "reverse", "sort"),
}
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_LITERALS = (ast.Dict, ast.List, ast.Set, ast.DictComp, ast.ListComp, ast.SetComp)


class Effects:
    """Finds them, each module's and each function's once.

    Args:
        modules: The project's modules.
    """

    def __init__(self, modules: Modules) -> None:
        self._modules = modules
        self._looked_at: dict[Symbol, tuple[bool, tuple[Symbol, ...]]] = {}

    def statements(self, module: Module) -> list[ast.stmt]:
        """The statements of a module's top level that do more than to give names their values, in order."""
        return [one for one in module.tree.body if any(self._acts(node, module) for node in _evaluated(one))]

    def run_with(self, symbol: Symbol, statements: Iterable[ast.stmt]) -> Iterator[Symbol]:
        """Yield the ``IMPORT`` of each module that is imported before what a symbol's statements do is done.

        Args:
            symbol: A symbol of the project.
            statements: Its statements; what is imported inside functions counts, too.
        """
        module = self._modules.module(symbol[0])
        assert module is not None
        inside = (node for one in statements for node in ast.walk(one))
        top = (node for one in module.tree.body for node in _evaluated(one)) if symbol[1] == IMPORT else ()
        names = {symbol[0]}
        for node in (*inside, *top):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names |= set(imported_names(node, module))
        for parts in sorted(name.split(".") for name in names):
            if not all(parts):
                continue  # above the folders
            for depth in range(1, len(parts) + 1):
                if self._modules.module(below := ".".join(parts[:depth])) is not None:
                    yield (below, IMPORT)

    def _acts(self, node: ast.AST, module: Module) -> bool:
        if isinstance(node, ast.Expr):
            return not isinstance(node.value, ast.Constant) and not _changes_own(node.value, module)
        if isinstance(node, ast.Call):
            return self._is_called(node.func, module)
        if isinstance(node, _DEFINITIONS):
            bases = (
                [*node.bases, *(one.value for one in node.keywords)] if isinstance(node, ast.ClassDef) else []
            )
            decorators = [one for one in node.decorator_list if not declares_step(one, module)]
            return any(self._collects(one, module, frozenset()) for one in bases) or any(
                self._decorates(one, module) for one in decorators
            )
        thrown_away = isinstance(node, ast.Assign) and all(
            isinstance(one, ast.Name) and one.id == "_" for one in node.targets
        )
        return thrown_away or any(not _is_own(one, module) for one in _set_in(node))

    def _is_called(self, called: ast.expr, module: Module) -> bool:
        """Whether a function or class of the project is called that sets something outside itself."""
        start = self._resolved(called, module)
        front, seen = [] if start is None else [start], set[Symbol]()
        while front:
            symbol = front.pop()
            if symbol not in seen:
                seen.add(symbol)
                sets, calls = self._look(symbol)
                if sets:
                    return True
                front += calls
        return False

    def _decorates(self, decorator: ast.expr, module: Module) -> bool:
        called = decorator.func if isinstance(decorator, ast.Call) else decorator
        symbol = self._resolved(called, module)
        if symbol is None:
            return False
        # A method of another module's object; of an own one it is among the statements of that name.
        method = symbol[0] != module.name and symbol[1] not in (dotted(called)[-1], "*")
        return self._is_called(called, module) or method

    def _collects(self, base: ast.expr, module: Module, seen: frozenset[Symbol]) -> bool:
        """Whether a base class, or a class of classes, of the project is told of the classes below it."""
        symbol = self._resolved(base, module)
        if symbol is None or symbol in seen:
            return False
        home = self._modules.module(symbol[0])
        assert home is not None
        for found in home.bindings.get(symbol[1], ()):
            if isinstance(found, ast.ClassDef):
                told = {one.name for one in found.body if isinstance(one, ast.FunctionDef)}
                above = [*found.bases, *(one.value for one in found.keywords)]
                is_type = any(isinstance(one, ast.Name) and one.id == "type" for one in found.bases)
                if is_type or "__init_subclass__" in told:
                    return True
                if any(self._collects(one, home, seen | {symbol}) for one in above):
                    return True
        return False

    def _look(self, symbol: Symbol) -> tuple[bool, tuple[Symbol, ...]]:
        """Whether a function or class itself sets something outside, and what of the project it calls."""
        if symbol not in self._looked_at:
            module = self._modules.module(symbol[0])
            assert module is not None
            found = [one for one in module.bindings.get(symbol[1], ()) if isinstance(one, _DEFINITIONS)]
            plain = [
                one for one in found if not any(declares_step(mark, module) for mark in one.decorator_list)
            ]
            sets = any(self._sets_outside(one, module) for one in plain)
            calls = {called for one in plain for called in self._calls(one, module)}
            self._looked_at[symbol] = sets, tuple(sorted(calls))
        return self._looked_at[symbol]

    def _calls(self, definition: ast.stmt, module: Module) -> Iterator[Symbol]:
        local = _local_names(definition)
        for node in ast.walk(definition):
            if isinstance(node, ast.Call) and root_of(node.func) not in local:
                symbol = self._resolved(node.func, module)
                if symbol is not None:
                    yield symbol

    def _sets_outside(self, definition: ast.stmt, module: Module) -> bool:
        local = _local_names(definition)
        for node in ast.walk(definition):
            if isinstance(node, ast.Global) or any(root_of(one) not in local for one in _set_in(node)):
                return True
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                changing = node.func.attr in _CHANGING and root_of(node.func) not in local
                symbol = self._resolved(node.func.value, module) if changing else None
                home = None if symbol is None else self._modules.module(symbol[0])
                if symbol is not None and home is not None and _is_literal(symbol[1], home):
                    return True
        return False

    def _resolved(self, value: ast.expr, module: Module) -> Symbol | None:
        chain = dotted(value)
        return self._modules.resolve(module.name, chain) if chain else None


def _evaluated(node: ast.AST) -> Iterator[ast.AST]:
    """What of a statement is computed when it is imported: no bodies of functions, nothing for a script or a checker."""
    yield node
    inside: Iterable[ast.AST]
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        inside = [*node.decorator_list, *_defaults(node.args)]
    elif isinstance(node, ast.Lambda):
        inside = _defaults(node.args)
    elif isinstance(node, ast.If) and not for_import(node):
        inside = node.orelse
    else:
        inside = ast.iter_child_nodes(node)
    for one in inside:
        yield from _evaluated(one)


def _defaults(arguments: ast.arguments) -> list[ast.expr]:
    return [one for one in (*arguments.defaults, *arguments.kw_defaults) if one is not None]


def _set_in(node: ast.AST) -> Iterator[ast.Attribute | ast.Subscript]:
    """The attributes and items that a statement sets or takes away."""
    targets: list[ast.expr] = []
    if isinstance(node, ast.Assign | ast.Delete):
        targets = list(node.targets)
    elif isinstance(node, ast.AugAssign) or (isinstance(node, ast.AnnAssign) and node.value is not None):
        targets = [node.target]
    while targets:
        target = targets.pop()
        if isinstance(target, ast.Tuple | ast.List):
            targets += target.elts
        elif isinstance(target, ast.Starred):
            targets.append(target.value)
        elif isinstance(target, ast.Attribute | ast.Subscript):
            yield target


def _is_own(target: ast.Attribute | ast.Subscript, module: Module) -> bool:
    """Whether it is set in what has one name, in this module, so that it counts with that name alone."""
    name = target.value.id if isinstance(target.value, ast.Name) else ""
    binding = _binding(name, module)
    defined = bool(binding) and all(isinstance(one, _DEFINITIONS) for one in binding)
    return defined or _is_literal(name, module)


def _changes_own(value: ast.expr, module: Module) -> bool:
    """Whether it calls a method of a list, dict or set that has one name, in this module: ``TABLE.update(a=1)``."""
    called = value.func if isinstance(value, ast.Call) else None
    held = called.value if isinstance(called, ast.Attribute) else None
    return isinstance(held, ast.Name) and _is_literal(held.id, module)


def _is_literal(name: str, module: Module) -> bool:
    """Whether a name was given a list, dict or set that was written there, and nothing else."""
    binding = _binding(name, module)
    return bool(binding) and all(_gives_literal(one) for one in binding)


def _gives_literal(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.Assign):
        single = len(statement.targets) == 1 and isinstance(statement.targets[0], ast.Name)
        return single and isinstance(statement.value, _LITERALS)
    return isinstance(statement, ast.AnnAssign) and isinstance(statement.value, _LITERALS)


def _binding(name: str, module: Module) -> list[ast.stmt]:
    return [one for one in module.bindings.get(name, ()) if name in bound_names([one])]


def _local_names(definition: ast.stmt) -> set[str]:
    """The names that a function or the functions inside have for themselves, none of them a module's."""
    local: set[str] = set()
    for node in ast.walk(definition):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            local |= set(parameters(node.args))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            local |= set(bound_names(node.body))
    outside: set[str] = set()
    for node in ast.walk(definition):
        if isinstance(node, ast.Import | ast.ImportFrom):
            outside |= set(bound_names([node]))
        elif isinstance(node, ast.Global):
            outside |= set(node.names)
    return local - outside
