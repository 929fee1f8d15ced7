"""What a step's own process does: import the function, read its inputs, call it, store what it returns.

It runs in a fresh process that knows no module of the project yet, so the code is as it is on disk now. Whatever goes
wrong becomes a value: which of the ways it is decides whether trying again can help.
"""

from __future__ import annotations

import importlib
import inspect
import logging
import os
import random
import sys
import traceback
from collections.abc import Mapping
from contextlib import suppress
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec
from pathlib import Path
from types import TracebackType
from typing import Any

from mlflow_core.artifacts import ArtifactStore
from mlflow_core.errors import ArtifactError, SpecError, nearest
from mlflow_core.spec import StepFunction
from mlflow_core.workflow.calling.call import StepCall
from mlflow_core.workflow.calling.values import WrongResult, read_input, store_output
from mlflow_core.workflow.code import digest_of_code

__all__ = ["run_body"]

_OURS = str(Path(__file__).parent)
_SHOWN = 2000
_PACKAGE = str(Path(__file__).parents[2])


def run_body(call: StepCall, folder: Path) -> dict[str, Any]:
    """Run a step in this process, which is made for it and ends after it.

    Args:
        call: The step and what it reads.
        folder: A folder of its own; the function runs in a folder below it.

    Returns:
        JSON values for ``Ended``: ``how`` with ``digest``, ``kind`` and ``size``, or with ``fault``.
    """
    try:
        return _run(call, folder)
    except _Found as found:
        return found.ended
    except MemoryError as error:
        _print(error)
        return _fault(
            "crashed", "out of memory", hint="Give it less to do at once, or a worker with more memory."
        )


class _Found(Exception):
    """The step cannot go on; how it ended."""

    def __init__(self, how: str, what: str, **more: str | None) -> None:
        super().__init__(what)
        self.ended = _fault(how, what, **more)


def _fault(how: str, what: str, *, place: str | None = None, hint: str | None = None) -> dict[str, Any]:
    return {"how": how, "fault": {"what": what, "place": place, "hint": hint}}


def _run(call: StepCall, folder: Path) -> dict[str, Any]:
    _set_up(call)
    function = _function(call)
    params = _settings(function, call)
    store = ArtifactStore(call.store)
    try:
        inputs = {
            name: read_input(stored, function.takes[name], store, folder / "inputs" / name)
            for name, stored in call.arguments.items()
        }
    except ArtifactError as error:
        raise _Found("crashed", f"its inputs cannot be read: {error}") from None
    here = folder / "work"
    here.mkdir(parents=True)
    os.chdir(here)
    try:
        result = function.function(**inputs, **params)
    except MemoryError:
        raise
    except BaseException as error:  # sys.exit() too: it ends the step, which has no result then
        raise _failed(error, call) from None
    return _stored(result, function, store, folder, call)


def _stored(
    result: Any, function: StepFunction, store: ArtifactStore, folder: Path, call: StepCall
) -> dict[str, Any]:
    try:
        artifact, kind = store_output(result, function.gives, store, folder / "output", name=call.name)
    except WrongResult as error:
        raise _Found("failed", str(error), place=_place_of(function, call)) from None
    except RecursionError:
        raise _Found("failed", "the result holds itself", place=_place_of(function, call)) from None
    except (ArtifactError, OSError) as error:
        raise _Found("crashed", f"its result could not be stored: {error}") from None
    return {"how": "finished", "digest": artifact.digest, "kind": kind, "size": artifact.size}


def _set_up(call: StepCall) -> None:
    sys.path[:0] = [folder for folder in call.project if folder not in sys.path[: len(call.project)]]
    sys.dont_write_bytecode = True
    package, _, _ = call.import_path.partition(":")[0].rpartition(".")
    _pin(package, call.project)
    importlib.invalidate_caches()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    random.seed(call.seed)
    if (numpy := sys.modules.get("numpy")) is not None:
        numpy.random.seed(call.seed % 2**32)


def _pin(package: str, project: tuple[str, ...]) -> None:
    """Make the project's folders without ``__init__.py`` packages: one elsewhere on the path would win over them."""
    parts = package.split(".") if package else []
    for depth in range(1, len(parts) + 1):
        name = ".".join(parts[:depth])
        places = [one for folder in project if (one := Path(folder, *parts[:depth])).is_dir()]
        if name in sys.modules or not places or (places[0] / "__init__.py").exists():
            continue
        spec = ModuleSpec(name, None, is_package=True)
        spec.submodule_search_locations = [str(one) for one in places]
        sys.modules[name] = module_from_spec(spec)


def _function(call: StepCall) -> StepFunction:
    module_name, _, name = call.import_path.partition(":")
    try:
        module = importlib.import_module(module_name)
    except MemoryError:
        raise
    except BaseException as error:  # whatever a user's file raises
        _print(error)
        what = f"cannot import {module_name}: {type(error).__name__}: {_message(error)}"
        raise _Found("failed", what, place=_place(error.__traceback__, call)) from None
    found = getattr(module, name, None)
    if not isinstance(found, StepFunction):
        known = [key for key, value in vars(module).items() if isinstance(value, StepFunction)]
        raise _Found("failed", f'module {module_name} has no step "{name}"', hint=nearest(name, known))
    here = digest_of_code(found, project=[Path(one) for one in call.project]) if call.code else {}
    if other := [one for one, digest in here.items() if call.code.get(one, digest) != digest]:
        raise _Found(
            "failed",
            f"its code here is not the code that the run began with: {', '.join(other)}",
            place=_place_of(found, call),
            hint="All machines must see the same project; if it was edited meanwhile, start the run anew.",
        )
    return found


def _settings(function: StepFunction, call: StepCall) -> dict[str, Any]:
    params: Mapping[str, Any] = call.params
    if "seed" in function.settings and "seed" not in params:
        params = {**params, "seed": call.seed}
    try:
        return function.read_settings(params)
    except SpecError as error:
        raise _Found("failed", error.what, place=_place_of(function, call), hint=error.hint) from None


def _failed(error: BaseException, call: StepCall) -> _Found:
    _print(error)
    message = _message(error)
    what = f"{type(error).__qualname__}: {message}" if message else type(error).__qualname__
    return _Found("failed", what, place=_place(error.__traceback__, call))


def _message(error: BaseException) -> str:
    """What an error says, on one line that can be written anywhere; all of it is in the log."""
    try:
        text = " ".join(str(error).split())
    except Exception:  # the error is of the user's own class
        return "what it says cannot be shown"
    text = text.encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _print(error: BaseException) -> None:
    """Print the traceback as Python does, without the frames of this package that called the function."""
    shown = traceback.TracebackException.from_exception(error)
    while shown.stack and shown.stack[0].filename.startswith((_OURS, "<frozen")):
        del shown.stack[0]
    with suppress(OSError, ValueError):  # the function may have closed it
        print("".join(shown.format()), end="", file=sys.stderr, flush=True)


def _place(trace: TracebackType | None, call: StepCall) -> str | None:
    """The innermost line inside the project."""
    for frame in reversed(traceback.extract_tb(trace)):
        if (shown := _in_project(frame.filename, call)) is not None:
            return f"{shown}:{frame.lineno}"
    return None


def _place_of(function: StepFunction, call: StepCall) -> str | None:
    file = inspect.getsourcefile(function.function)
    shown = None if file is None else _in_project(file, call)
    return None if shown is None else f"{shown}:{function.function.__code__.co_firstlineno}"


def _in_project(file: str, call: StepCall) -> str | None:
    path = Path(file)
    if path.is_relative_to(_PACKAGE) or "site-packages" in path.parts:
        return None
    folder = next((one for one in call.project if path.is_relative_to(one)), None)
    return None if folder is None else str(path.relative_to(folder))
