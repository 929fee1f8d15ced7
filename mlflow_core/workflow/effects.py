"""What a module of the project does while it is imported, beyond giving its own names their values.

Which statements give a name its value is told by ``mlflow_core.workflow.modules``. Here is the rest: calls that stand
alone, what is set in an object of another module or in one that may have two names, calls of functions of the project
that set something outside themselves (``mlflow_core.workflow.called`` tells which), decorators that are such functions,
classes that their base collects. What a library does when its call gives a name its value is not known, and not counted.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from typing import Final

from mlflow_core.workflow.called import DEFINITIONS, Called, binding, name_called, set_in
from mlflow_core.workflow.modules import (
    Module,
    Modules,
    Symbol,
    bound_names,
    declares_step,
    dotted,
    for_import,
    imported_names,
)

__all__ = ["IMPORT", "Effects"]

IMPORT: Final = "<import>"
"""Stands for all that a module does while it is imported, where a name of it would stand."""

_OPENING: Final = {"as_file", "open", "suppress"}
"""What is entered by ``with`` and leaves nothing behind."""

_ASKING: Final = {
    *("all", "any", "bool", "callable", "hasattr", "isinstance", "issubclass", "len", "max", "min", "sum"),
    *("frozenset", "list", "set", "sorted", "tuple"),
    *("endswith", "exists", "is_dir", "is_file", "issubset", "startswith"),
}
"""Functions and methods of which it is known that they only look."""


class Effects:
    """Finds them, each function's once.

    Args:
        modules: The project's modules.
    """

    def __init__(self, modules: Modules) -> None:
        self._modules = modules
        self._called = Called(modules)

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
            return not isinstance(node.value, ast.Constant) and not self._changes_own(node.value, module)
        if isinstance(node, ast.Call):
            return self._called.sets(node.func, module) or self._called.changes_given(node, module)
        if isinstance(node, DEFINITIONS):
            bases = (
                [*node.bases, *(one.value for one in node.keywords)] if isinstance(node, ast.ClassDef) else []
            )
            decorators = [one for one in node.decorator_list if not declares_step(one, module)]
            return any(self._collects(one, module, frozenset()) for one in bases) or any(
                self._decorates(one, module) for one in decorators
            )
        if isinstance(node, ast.Assert):
            calls = (one for one in ast.walk(node.test) if isinstance(one, ast.Call))
            return not all(self._asks(one, module) for one in calls)
        if isinstance(node, ast.With | ast.AsyncWith):
            entered = (one.context_expr for one in node.items)
            return not all(isinstance(one, ast.Call) and name_called(one) in _OPENING for one in entered)
        if isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
            return self._has_another_name(node.target.id, module)
        thrown_away = isinstance(node, ast.Assign) and all(
            isinstance(one, ast.Name) and one.id == "_" for one in node.targets
        )
        return thrown_away or any(not self._is_own(one, module) for one in set_in(node))

    def _decorates(self, decorator: ast.expr, module: Module) -> bool:
        called = decorator.func if isinstance(decorator, ast.Call) else decorator
        symbol = self._called.resolved(called, module)
        if symbol is None:
            return False
        # A method of another module's object; of an own one it is among the statements of that name.
        method = symbol[0] != module.name and symbol[1] not in (dotted(called)[-1], "*")
        return self._called.sets(called, module) or method

    def _collects(self, base: ast.expr, module: Module, seen: frozenset[Symbol]) -> bool:
        """Whether a base class, or a class of classes, of the project is told of the classes below it."""
        symbol = self._called.resolved(base, module)
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

    def _has_another_name(self, name: str, module: Module) -> bool:
        """Whether what ``name += ...`` changes may be known by another name, too: it was imported, or another's."""
        for node in (inside for one in binding(name, module) for inside in ast.walk(one)):
            if isinstance(node, ast.Import | ast.ImportFrom) and name in bound_names([node]):
                return True
            if name in bound_names([node]) and self._gives_another(node, module):
                return True
        return any(self._modules.resolve(star, (name,)) is not None for star in module.stars)

    def _gives_another(self, statement: ast.AST, module: Module) -> bool:
        """Whether a statement gives a name what may have a name already."""
        if not isinstance(statement, ast.Assign | ast.AnnAssign):
            return False
        value = statement.value
        if isinstance(value, ast.Name | ast.Attribute):
            symbol = self._called.resolved(value, module)
            return symbol is None or self._called.held(symbol) != "constant"
        several = isinstance(statement, ast.Assign) and len(statement.targets) > 1
        return isinstance(value, ast.Subscript | ast.IfExp | ast.BoolOp) or (
            several and not isinstance(value, ast.Constant)
        )

    def _asks(self, call: ast.Call, module: Module) -> bool:
        """Whether a call in an ``assert`` does nothing that is not looked for elsewhere."""
        symbol = self._called.resolved(call.func, module)
        return name_called(call) in _ASKING if symbol is None else self._called.held(symbol) != "object"

    def _is_own(self, target: ast.Attribute | ast.Subscript, module: Module) -> bool:
        """Whether it is set in what has one name, in this module, so that it counts with that name alone."""
        name = target.value.id if isinstance(target.value, ast.Name) else ""
        found = binding(name, module)
        defined = bool(found) and all(isinstance(one, DEFINITIONS) for one in found)
        return defined or self._called.is_container(name, module)

    def _changes_own(self, value: ast.expr, module: Module) -> bool:
        """Whether it calls a method of a list, dict or set that has one name, in this module: ``TABLE.update(a=1)``."""
        called = value.func if isinstance(value, ast.Call) else None
        held = called.value if isinstance(called, ast.Attribute) else None
        return isinstance(held, ast.Name) and self._called.is_container(held.id, module)


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
