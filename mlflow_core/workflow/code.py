"""What a user's function computes, as digests of code: its own, and that of all in the project that it leads to.

Read from the text of the project's files, so it is the same in every process and needs nothing run. Comments,
docstrings, blank lines and layout take no part. What is installed does not either: its versions are recorded with a
run. What the modules that are imported for it do meanwhile counts, as ``mlflow_core.workflow.effects`` finds it. What only
running shows (``getattr`` with a computed name, values read from files) is not seen; where a module is used as a value,
all of it counts.
"""

from __future__ import annotations

import ast
import copy
import hashlib
import inspect
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from mlflow_core.spec import StepFunction
from mlflow_core.spec.code import code_digest
from mlflow_core.workflow.effects import IMPORT, Effects
from mlflow_core.workflow.modules import (
    Module,
    Modules,
    Symbol,
    bound_names,
    declares_step,
    dotted,
    import_targets,
    parameters,
)

__all__ = ["digest_of_code", "digest_of_path"]

_Functions = ast.FunctionDef | ast.AsyncFunctionDef


def digest_of_code(
    function: Callable[..., Any] | StepFunction, *, project: Iterable[Path]
) -> Mapping[str, str]:
    r"""Return the digests of a function and of all functions, classes and constants of the project that it leads to.

    Args:
        function: A function at the top level of a module, or a step of one.
        project: The project's folders; what is not below them is taken as installed.

    Returns:
        ``module:name`` -> ``sha256:`` and 64 hexadecimal digits, sorted by name. Decorators count, ``@step`` does not:
        how often a step is tried again does not change what it computes.

    Example:
        >>> import sys
        >>> _ = Path("rates.py").write_text("RATE = 3  # per cent\n\n\ndef share(of):\n    return of * RATE\n")
        >>> sys.path.insert(0, str(Path.cwd()))
        >>> from rates import share
        >>> list(digest_of_code(share, project=(Path.cwd(),)))
        ['rates:RATE', 'rates:share']
        >>> sys.path.remove(str(Path.cwd()))
    """
    plain = inspect.unwrap(function.function if isinstance(function, StepFunction) else function)
    modules = Modules(project)
    start = (plain.__module__, plain.__qualname__.partition(".")[0])
    home = modules.module(start[0])
    if home is None or start[1] not in home.bindings:
        return {f"{plain.__module__}:{plain.__qualname__}": f"sha256:{code_digest(plain)}"}
    return _digests_from(start, modules)


def digest_of_path(path: str, *, project: Iterable[Path]) -> Mapping[str, str]:
    """Return what ``digest_of_code`` says of what an import path names, without importing it.

    Args:
        path: ``module:name``.
        project: The project's folders.

    Returns:
        ``module:name`` -> digest; nothing where the module is not the project's, or has no such name.

    Example:
        >>> digest_of_path("sklearn.linear_model:Ridge", project=(Path.cwd(),))
        {}
    """
    modules = Modules(project)
    module, _, name = path.partition(":")
    home = modules.module(module)
    return {} if home is None or name not in home.bindings else _digests_from((module, name), modules)


def _digests_from(start: Symbol, modules: Modules) -> dict[str, str]:
    """Digests of a symbol of the project and of all that it leads to."""
    effects = Effects(modules)
    found: dict[Symbol, str | None] = {}
    front = [start]
    while front:
        symbol = front.pop()
        if symbol in found:
            continue
        module = modules.module(symbol[0])
        assert module is not None
        statements = _statements(symbol, module, effects)
        found[symbol] = _digest(statements) if statements or symbol[1] != IMPORT else None
        front += [*_led_to(statements, module, modules), *effects.run_with(symbol, statements)]
    told = sorted((symbol, digest) for symbol, digest in found.items() if digest is not None)
    return {f"{module}:{name}": digest for (module, name), digest in told}


def _statements(symbol: Symbol, module: Module, effects: Effects) -> list[ast.stmt]:
    """The statements of a symbol, without what computes nothing."""
    if symbol[1] == IMPORT:
        statements = effects.statements(module)
    else:
        statements = module.tree.body if symbol[1] == "*" else module.bindings.get(symbol[1], [])
    plain = _Plain(lambda decorator: declares_step(decorator, module))
    return [one for statement in statements if (one := plain.visit(copy.deepcopy(statement))) is not None]


def _digest(statements: list[ast.stmt]) -> str:
    text = "\n".join(ast.dump(one) for one in statements)
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


class _Plain(ast.NodeTransformer):
    """Takes away what computes nothing: texts that stand alone, so also docstrings, and what only declares a step."""

    def __init__(self, declares_step: Callable[[ast.expr], bool]) -> None:
        self._declares_step = declares_step

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        alone = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return None if alone else self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        node.kind = None  # u"text" is "text"
        return node

    def visit_Pass(self, node: ast.Pass) -> None:  # noqa: ARG002 (what the visitor calls)
        return None

    def generic_visit(self, node: ast.AST) -> ast.AST:
        decorators = getattr(node, "decorator_list", None)
        if decorators:
            node.decorator_list = [one for one in decorators if not self._declares_step(one)]  # type: ignore[attr-defined]
        return super().generic_visit(node)


def _led_to(statements: list[ast.stmt], module: Module, modules: Modules) -> list[Symbol]:
    uses = _Uses(module)
    for statement in statements:
        uses.visit(statement)
    led = {modules.resolve(base, chain) for base, chain in uses.found}
    return sorted(one for one in led if one is not None)


Target = tuple[str, tuple[str, ...]]


class _Uses(ast.NodeVisitor):
    """The names that statements use and do not bind themselves, each with the module to look for it in."""

    def __init__(self, module: Module) -> None:
        self.found: set[Target] = set()
        self._module = module
        self._scopes: list[dict[str, Target | None]] = []

    def visit_Name(self, node: ast.Name) -> None:
        self._use((node.id,))

    def visit_Attribute(self, node: ast.Attribute) -> None:
        chain = dotted(node)
        if chain:
            self._use(chain)
        else:
            self.generic_visit(node)

    def visit_Import(self, node: ast.Import) -> None:
        self._import(node)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        self._import(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self._function(node)

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self._defaults(node.args)
        self._inside(parameters(node.args), [node.body])

    def visit_ListComp(self, node: ast.ListComp) -> None:
        self._comprehension(node.generators, [node.elt])

    def visit_SetComp(self, node: ast.SetComp) -> None:
        self._comprehension(node.generators, [node.elt])

    def visit_GeneratorExp(self, node: ast.GeneratorExp) -> None:
        self._comprehension(node.generators, [node.elt])

    def visit_DictComp(self, node: ast.DictComp) -> None:
        self._comprehension(node.generators, [node.key, node.value])

    def _use(self, chain: tuple[str, ...]) -> None:
        for scope in reversed(self._scopes):
            if chain[0] in scope:
                target = scope[chain[0]]
                if target is not None:
                    self.found.add((target[0], (*target[1], *chain[1:])))
                return
        self.found.add((self._module.name, chain))

    def _import(self, node: ast.Import | ast.ImportFrom) -> None:
        if isinstance(node, ast.ImportFrom) or not self._scopes:
            self.found |= {(base, names) for _, base, names in import_targets(node, self._module)}

    def _function(self, node: _Functions) -> None:
        for one in (*node.decorator_list, *([node.returns] if node.returns else [])):
            self.visit(one)
        self._defaults(node.args)
        everything = (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
        more = [one for one in (node.args.vararg, node.args.kwarg) if one is not None]
        for parameter in (*everything, *more):
            if parameter.annotation is not None:
                self.visit(parameter.annotation)
        declared = {
            name for one in _own_nodes(node.body) if isinstance(one, ast.Global) for name in one.names
        }
        local = {*parameters(node.args), *bound_names(node.body)} - declared
        self._inside(local, node.body)

    def _defaults(self, arguments: ast.arguments) -> None:
        for one in (*arguments.defaults, *arguments.kw_defaults):
            if one is not None:
                self.visit(one)

    def _inside(self, local: Iterable[str], body: Iterable[ast.AST]) -> None:
        body = list(body)
        scope: dict[str, Target | None] = dict.fromkeys(local)
        for node in _own_nodes(body):
            if isinstance(node, ast.Import | ast.ImportFrom):
                scope |= {bound: (base, names) for bound, base, names in import_targets(node, self._module)}
        self._scopes.append(scope)
        for one in body:
            self.visit(one)
        self._scopes.pop()

    def _comprehension(self, generators: list[ast.comprehension], results: list[ast.expr]) -> None:
        self.visit(generators[0].iter)
        targets = [one.target for one in generators]
        rest: list[ast.AST] = [*results]
        for number, one in enumerate(generators):
            rest += [*one.ifs, *([one.iter] if number else [])]
        self._inside(bound_names(targets), rest)


def _own_nodes(body: Iterable[ast.AST]) -> Iterable[ast.AST]:
    """The nodes of a scope, not of the functions inside."""
    for node in body:
        yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from _own_nodes(ast.iter_child_nodes(node))
