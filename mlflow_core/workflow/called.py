"""What functions and classes of the project do, when they are called, to what lies outside of them.

They set a name of a module, call a method that may change what such a name holds, or change what they were given. Where
that cannot be told, it is taken as done: a step is then run again for nothing, rather than found where it should not be.
What a library does elsewhere is not known, and not counted.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from mlflow_core.workflow.modules import (
    Module,
    Modules,
    Symbol,
    bound_names,
    declares_step,
    dotted,
    import_targets,
    parameters,
    root_of,
)

__all__ = ["DEFINITIONS", "Called", "binding", "name_called", "set_in"]

DEFINITIONS: Final = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_LITERALS = (ast.Dict, ast.List, ast.Set, ast.DictComp, ast.ListComp, ast.SetComp)
_CONTAINERS: Final = {"Counter", "OrderedDict", "defaultdict", "deque", "dict", "list", "set"}
_CHANGING: Final = {
    *("add", "append", "appendleft", "extend", "extendleft", "insert", "setdefault", "subtract", "update"),
    *("clear", "discard", "pop", "popitem", "popleft", "remove"),
    *("move_to_end", "reverse", "rotate", "sort"),
    *("difference_update", "intersection_update", "symmetric_difference_update"),
}
_READING: Final = {
    *("copy", "count", "elements", "get", "index", "items", "keys", "most_common", "total", "values"),
    *("difference", "intersection", "isdisjoint", "issubset", "issuperset", "symmetric_difference", "union"),
}
"""Methods of the containers that change nothing."""

_UNCHANGING: Final = {
    *("Path", "PurePath", "absolute", "cwd", "expanduser", "home", "joinpath", "resolve"),
    *("with_name", "with_suffix"),
    *("Decimal", "compile", "date", "datetime", "frozenset", "getLogger", "timedelta"),
    *("bool", "bytes", "float", "int", "str"),
}
"""Functions and methods whose results have no method that changes what a step computes."""

_CLASS: Final = "cls"

Held = Literal["definition", "constant", "container", "object"]


@dataclass(frozen=True)
class _Does:
    """What a function or class does by itself, and which others it calls.

    Attributes:
        sets: Whether it sets something outside.
        changes: Whether it changes what it is given.
        calls: All of the project that it calls.
        gives: Those of them that it gives something of the project that may be changed.
        passes: Those of them that it gives what it was given.
    """

    sets: bool
    changes: bool
    calls: frozenset[Symbol]
    gives: frozenset[Symbol]
    passes: frozenset[Symbol]


@dataclass(frozen=True)
class _Scope:
    """Where names are looked up.

    Attributes:
        module: The module around it.
        local: Names that are none of a module's.
        imports: What imports inside of a function lead to, by name.
    """

    module: Module
    local: frozenset[str] = frozenset()
    imports: Mapping[str, tuple[str, tuple[str, ...]]] = field(default_factory=dict)


class Called:
    """Looks at each function and class once.

    Args:
        modules: The project's modules.
    """

    def __init__(self, modules: Modules) -> None:
        self._modules = modules
        self._looked_at: dict[Symbol, _Does] = {}

    def sets(self, called: ast.expr, module: Module) -> bool:
        """Whether a function or class of the project is called that sets something outside itself."""
        return any(
            one.sets or any(self._changes(given) for given in one.gives)
            for one in self._reached(self.resolved(called, module), lambda does: does.calls)
        )

    def changes_given(self, call: ast.Call, module: Module) -> bool:
        """Whether a function of the project changes what it is given, and is given something of the project."""
        called = self.resolved(call.func, module)
        return called is not None and self._gives(call, _Scope(module)) and self._changes(called)

    def resolved(self, value: ast.expr, module: Module) -> Symbol | None:
        """The symbol of the project that a dotted name leads to."""
        return self._symbol(dotted(value), _Scope(module))

    def _symbol(self, chain: Sequence[str], scope: _Scope) -> Symbol | None:
        if not chain or chain[0] in scope.local:
            return None
        base, names = scope.imports.get(chain[0], (scope.module.name, (chain[0],)))
        return self._modules.resolve(base, (*names, *chain[1:]))

    def held(self, symbol: Symbol) -> Held:
        """What a name of a module holds; an object is what cannot be told more closely."""
        name, home = symbol[1], self._modules.module(symbol[0])
        assert home is not None
        statements = binding(name, home)
        defined = (isinstance(one, DEFINITIONS) or _imports_if_it_can(one, name) for one in statements)
        if name == "*" or (statements and all(defined)):
            return "definition"
        values = [_value_of(one) for one in statements]
        if values and all(one is not None and self._is_constant(one, home) for one in values):
            return "constant"
        return "container" if self.is_container(name, home) else "object"

    def is_container(self, name: str, module: Module) -> bool:
        """Whether a name was given a list, dict, set or their like that was made there, and nothing else."""
        values = [_value_of(one) for one in binding(name, module)]
        return bool(values) and all(one is not None and self._makes_container(one, module) for one in values)

    def _makes_container(self, value: ast.expr, module: Module) -> bool:
        if not isinstance(value, ast.Call):
            return isinstance(value, _LITERALS)
        return name_called(value) in _CONTAINERS and self.resolved(value.func, module) is None

    def _is_constant(self, value: ast.expr, module: Module) -> bool:
        """Whether a value is one that no method changes: a number, a text, a path, a pattern, a logger."""
        if isinstance(value, ast.Tuple):
            return all(self._is_constant(one, module) for one in value.elts)
        if isinstance(value, ast.UnaryOp):
            return self._is_constant(value.operand, module)
        if isinstance(value, ast.BinOp):
            path = isinstance(value.op, ast.Div) and isinstance(value.right, ast.Constant | ast.JoinedStr)
            return path or all(self._is_constant(one, module) for one in (value.left, value.right))
        if isinstance(value, ast.Attribute | ast.Subscript):
            return self._is_constant(value.value, module)
        if isinstance(value, ast.Call):
            return name_called(value) in _UNCHANGING and self.resolved(value.func, module) is None
        return isinstance(value, ast.Constant | ast.JoinedStr)

    def _changes(self, start: Symbol) -> bool:
        return any(one.changes for one in self._reached(start, lambda does: does.passes))

    def _reached(self, start: Symbol | None, along: Callable[[_Does], Iterable[Symbol]]) -> Iterator[_Does]:
        front, seen = [] if start is None else [start], set[Symbol]()
        while front:
            symbol = front.pop()
            if symbol not in seen:
                seen.add(symbol)
                yield (does := self._look(symbol))
                front += along(does)

    def _look(self, symbol: Symbol) -> _Does:
        if symbol not in self._looked_at:
            module = self._modules.module(symbol[0])
            assert module is not None
            found = [one for one in module.bindings.get(symbol[1], ()) if isinstance(one, DEFINITIONS)]
            plain = [
                one for one in found if not any(declares_step(mark, module) for mark in one.decorator_list)
            ]
            calls = [one for definition in plain for one in self._calls(definition, module)]
            self._looked_at[symbol] = _Does(
                sets=any(self._sets_outside(one, module) for one in plain),
                changes=any(_changes_given(one) for one in plain),
                calls=frozenset(called for called, _, _ in calls),
                gives=frozenset(called for called, gives, _ in calls if gives),
                passes=frozenset(called for called, _, passes in calls if passes),
            )
        return self._looked_at[symbol]

    def _calls(self, definition: ast.stmt, module: Module) -> Iterator[tuple[Symbol, bool, bool]]:
        """Yield each call of the project: of what, whether with something of the project, and with what was given."""
        scope, given = _scope(definition, module), _given(definition)
        for node in ast.walk(definition):
            if isinstance(node, ast.Call):
                symbol = self._symbol(dotted(node.func), scope)
                if symbol is not None:
                    passes = any(root_of(one) in given for one in _arguments(node))
                    yield symbol, self._gives(node, scope), passes

    def _gives(self, call: ast.Call, scope: _Scope) -> bool:
        """Whether a call gives away something of the project that may be changed."""
        given = (self._symbol(_before_items(one), scope) for one in _arguments(call))
        return any(one is not None and self.held(one) != "constant" for one in given)

    def _sets_outside(self, definition: ast.stmt, module: Module) -> bool:
        scope = _scope(definition, module)
        for node in ast.walk(definition):
            if isinstance(node, ast.Global) or any(root_of(one) not in scope.local for one in set_in(node)):
                return True
            if isinstance(node, ast.AugAssign) and root_of(node.target) not in scope.local:
                return True
            if isinstance(node, ast.Call) and self._changes_held(node, scope):
                return True
            if isinstance(node, ast.Expr) and self._hands_out(node.value, scope):
                return True
        return False

    def _changes_held(self, call: ast.Call, scope: _Scope) -> bool:
        """Whether it is a method that may change what a name of a module holds, or what a function of the project gave."""
        if not isinstance(call.func, ast.Attribute) or root_of(call.func) in scope.local:
            return False
        owner, method = call.func.value, call.func.attr
        start = owner
        while isinstance(start, ast.Attribute | ast.Subscript):
            start = start.value
        if isinstance(start, ast.Call):
            return method in _CHANGING and self._symbol(dotted(start.func), scope) is not None
        chain = _before_items(owner)
        symbol = self._symbol(chain, scope)
        if symbol is None:
            return method in _CHANGING and root_of(owner) == _CLASS
        held = self.held(symbol)
        if held == "definition":
            # A list that is an attribute of a class, not a function of it or of a module.
            inside = chain != dotted(owner) or self._symbol(chain[:-1], scope) == symbol
            return inside and symbol[1] != "*" and method in _CHANGING
        return held == "object" or (held == "container" and method not in _READING)

    def _hands_out(self, call: ast.expr, scope: _Scope) -> bool:
        """Whether a library is called for what it does to something of the project: ``bisect.insort(H, f)``."""
        if not isinstance(call, ast.Call) or root_of(call.func) in scope.local:
            return False
        if self._symbol(dotted(call.func), scope) is not None:
            return False  # looked at by itself
        by_name = name_called(call) in ("setattr", "delattr")
        for one in _arguments(call)[: 1 if by_name else None]:
            symbol = self._symbol(_before_items(one), scope)
            if symbol is not None and (by_name or self.held(symbol) in ("container", "object")):
                return True
        return False


def set_in(node: ast.AST) -> Iterator[ast.Attribute | ast.Subscript]:
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


def binding(name: str, module: Module) -> list[ast.stmt]:
    """The statements that bind a name of a module, without those that only change what it holds."""
    return [one for one in module.bindings.get(name, ()) if name in bound_names([one])]


def _value_of(statement: ast.stmt) -> ast.expr | None:
    """The value that a statement gives to one name alone; None where it does not."""
    if isinstance(statement, ast.Assign):
        single = len(statement.targets) == 1 and isinstance(statement.targets[0], ast.Name)
        return statement.value if single else None
    return statement.value if isinstance(statement, ast.AnnAssign) else None


def _imports_if_it_can(statement: ast.stmt, name: str) -> bool:
    """Whether it is ``try: import pandas`` or the like, so that the name is no object of the project's."""
    return isinstance(statement, ast.Try | ast.If) and any(
        isinstance(one, ast.Import | ast.ImportFrom) and name in bound_names([one])
        for one in ast.walk(statement)
    )


def name_called(call: ast.Call) -> str:
    """The last part of what is called: ``insort`` of ``bisect.insort(...)``."""
    if isinstance(call.func, ast.Attribute):
        return call.func.attr
    return call.func.id if isinstance(call.func, ast.Name) else ""


def _arguments(call: ast.Call) -> list[ast.expr]:
    return [*call.args, *(one.value for one in call.keywords)]


def _before_items(value: ast.expr) -> tuple[str, ...]:
    """The dotted name before the first item that is taken of it: that of ``reg.H`` for ``reg.H[n].rows``."""
    while not dotted(value) and isinstance(value, ast.Attribute | ast.Subscript | ast.Starred):
        value = value.value
    return dotted(value)


def _changes_given(definition: ast.stmt) -> bool:
    given = _given(definition)
    for node in ast.walk(definition):
        if any(root_of(one) in given for one in set_in(node)):
            return True
        if isinstance(node, ast.AugAssign) and root_of(node.target) in given:
            return True
        method = node.func if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) else None
        if method is not None and method.attr in _CHANGING and root_of(method) in given:
            return True
    return False


def _given(definition: ast.stmt) -> set[str]:
    """The parameters of a function, or of a class's methods, without the object and what is collected for the call."""
    if isinstance(definition, ast.ClassDef):
        inside = [one for one in definition.body if isinstance(one, _FUNCTIONS)]
        return {name for one in inside for name in sorted(_given(one) - set(parameters(one.args)[:1]))}
    assert isinstance(definition, _FUNCTIONS)
    made = {one.arg for one in (definition.args.vararg, definition.args.kwarg) if one is not None}
    return set(parameters(definition.args)) - made


def _scope(definition: ast.stmt, module: Module) -> _Scope:
    """The names that a function, or the functions inside, have for themselves."""
    local: set[str] = set()
    outside = {_CLASS} if isinstance(definition, ast.ClassDef) else set()
    imports: dict[str, tuple[str, tuple[str, ...]]] = {}
    for node in ast.walk(definition):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            local |= set(parameters(node.args))
        if isinstance(node, DEFINITIONS):
            local |= set(bound_names(node.body))
        if isinstance(node, ast.Import | ast.ImportFrom):
            imports |= {bound: (base, names) for bound, base, names in import_targets(node, module)}
        elif isinstance(node, ast.Global):
            outside |= set(node.names)
    return _Scope(module, frozenset(local - outside - set(imports)), imports)
