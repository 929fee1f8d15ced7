"""What the annotations of a step's function mean: what it reads and gives, and what its settings may be."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Literal, get_args, get_origin

import orjson
from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticSchemaGenerationError, PydanticUndefinedAnnotation

from mlflow_core.errors import SpecError

__all__ = ["OWN", "Kind", "hints_of", "kind_given", "parameters_of", "setting_as_json", "setting_from_json"]

Kind = Literal["table", "path", "dict", "list", "str", "int", "float", "bool", "none"]
"""What a step takes or gives: a ``pyarrow.Table``, a ``Path``, a JSON value, or (only given) nothing."""

OWN: Final = ("inputs", "name")
"""What a step is given beside its settings."""

_VALUES: Final[Mapping[type, Kind]] = {bool: "bool", int: "int", float: "float", str: "str", list: "list"}


def hints_of(function: Callable[..., Any], title: str) -> dict[str, Any]:
    """Return a function's annotations.

    Raises:
        SpecError: One names what is not known.
    """
    try:
        return typing.get_type_hints(function)
    except NameError as error:
        raise SpecError(
            f"an annotation names {error.name}, which is not known when the module is imported",
            object=title,
            hint='Import it outside of "if TYPE_CHECKING".',
        ) from None


def parameters_of(
    function: Callable[..., Any], hints: Mapping[str, Any], title: str
) -> tuple[dict[str, Kind], dict[str, bool]]:
    """Return the inputs with their kinds, and the settings with whether each has to be given.

    Raises:
        SpecError: A parameter cannot be either.
    """
    takes: dict[str, Kind] = {}
    settings: dict[str, bool] = {}
    for name, one in inspect.signature(function).parameters.items():
        if one.kind in (one.VAR_POSITIONAL, one.VAR_KEYWORD):
            raise SpecError(f"has a parameter {one}", object=title, expected="inputs and settings by name")
        if one.kind is one.KEYWORD_ONLY:
            if name in OWN:
                raise SpecError(f'has a setting "{name}", which every step has already', object=title)
            settings[name] = one.default is one.empty
        elif one.default is not one.empty:
            raise SpecError(
                f'input "{name}" has a default',
                object=title,
                hint=f'If it is a setting, put "*" before it: (*, {name}=...).',
            )
        else:
            takes[name] = _kind(hints.get(name), f'input "{name}"', title, ("none",))
    return takes, settings


def kind_given(hints: Mapping[str, Any], title: str) -> Kind:
    """Return what a function's result is annotated as.

    Raises:
        SpecError: It is not annotated, or as what cannot be kept.
    """
    return _kind(hints.get("return"), "the result", title, ())


def _kind(annotation: Any, what: str, title: str, without: tuple[str, ...]) -> Kind:
    origin = get_origin(annotation) or annotation
    if origin is typing.Annotated:
        return _kind(get_args(annotation)[0], what, title, without)
    found: Kind | None = None
    if annotation is types.NoneType:
        found = "none"
    elif isinstance(origin, type):
        if (origin.__module__, origin.__name__) == ("pyarrow.lib", "Table"):
            found = "table"
        elif issubclass(origin, Path) or origin is Path:
            found = "path"
        elif origin is Mapping or issubclass(origin, dict):
            found = "dict"
        else:
            found = _VALUES.get(origin)
    if found is None or found in without:
        said = "has no annotation" if annotation is None else f"is annotated as {_shown(annotation)}"
        known = "pyarrow.Table, Path, dict, list, str, int, float or bool" + ("" if without else ", or None")
        raise SpecError(f"{what} {said}", object=title, expected=known)
    return found


def setting_as_json(value: Any, annotation: Any, what: str, title: str) -> Any:
    """Return a setting as JSON values.

    Raises:
        SpecError: It is no JSON, or does not fit its annotation.
    """
    try:
        text = orjson.dumps(value)
    except TypeError:
        raise SpecError(
            f"{what} is {_shown(type(value))}, which is no JSON value",
            object=title,
            expected="texts, numbers, booleans, lists and dictionaries of them, dates",
        ) from None
    setting_from_json(text, annotation, what, title)
    return orjson.loads(text)


def setting_from_json(text: bytes, annotation: Any, what: str, title: str) -> Any:
    """Return a setting as its annotation says, read from JSON.

    Raises:
        SpecError: It does not fit its annotation, or nothing can be read as that.
    """
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(annotation)
    except (PydanticSchemaGenerationError, PydanticUndefinedAnnotation):
        raise SpecError(
            f"{what} is annotated as {_shown(annotation)}, which cannot be read from JSON", object=title
        ) from None
    try:
        return adapter.validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise SpecError(
            f"{what} is {text.decode()[:60]}: {first['msg']}", object=title, expected=_shown(annotation)
        ) from None


def _shown(annotation: Any) -> str:
    return annotation.__qualname__ if isinstance(annotation, type) else str(annotation).replace("typing.", "")
