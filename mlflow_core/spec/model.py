"""What every declaration is: a frozen value that knows where it was written and can say what is wrong with it.

A spec does no I/O and holds no connection, clock or opened path. Two specs are equal if their fields are; the
place of declaration is remembered for messages and does not take part in equality. The canonical JSON leaves
defaults out, so that a field added later does not change the fingerprint of what never used it.
"""

from __future__ import annotations

import hashlib
import re
import sys
from pathlib import Path
from types import FrameType
from typing import Any, ClassVar, Self

import orjson
from pydantic import (
    BaseModel,
    ConfigDict,
    PrivateAttr,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
)

from mlflow_core.errors import SpecError, nearest

__all__ = ["NAME", "Named", "Spec"]

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_PACKAGE = str(Path(__file__).parent.parent)


class Spec(BaseModel):
    """A declaration: frozen, validated whole, with all its errors told at once.

    Arguments may be given by position in the order that the class names in ``positional``.

    Raises:
        SpecError: The declaration is wrong; names file and line, object, every field, and what was expected.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)
    positional: ClassVar[tuple[str, ...]] = ()
    _place: str | None = PrivateAttr(default=None)

    def __init__(self, *args: Any, **fields: Any) -> None:
        place = _declared_at()
        title = _title(type(self).__name__, args[0] if args else fields.get("name"))
        if len(args) > len(self.positional):
            raise SpecError(
                f"takes at most {len(self.positional)} arguments by position, {len(args)} were given",
                object=title,
                place=place,
                expected=f"({', '.join(self.positional)}) and the rest by name" if self.positional else "names only",
            )
        given = dict(zip(self.positional, args, strict=False))
        twice = sorted(set(given) & set(fields))
        if twice:
            raise SpecError(f"{twice[0]} was given twice", object=title, place=place)
        try:
            super().__init__(**given, **fields)
        except ValidationError as error:
            raise SpecError(_all_errors(error, type(self)), object=title, place=place) from None
        self._place = place

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.__dict__ == other.__dict__

    def __hash__(self) -> int:
        return hash((type(self), self.canonical_json()))

    @model_serializer(mode="wrap")
    def _keep_kind(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # The kind tells the members of a union apart, so it is written although it is always its own default.
        data: dict[str, Any] = handler(self)
        return {**data, "kind": self.__dict__["kind"]} if "kind" in self.__dict__ else data

    @property
    def place(self) -> str | None:
        """Where it was declared, ``file:line``, or None when it was not declared in a file."""
        return self._place

    @property
    def title(self) -> str:
        """How messages call it, e.g. ``FeatureView "carrier_delay"``."""
        return _title(type(self).__name__, getattr(self, "name", None))

    def canonical_json(self) -> bytes:
        """Return the one JSON text of this declaration: sorted keys, defaults left out, UTF-8."""
        return orjson.dumps(self.model_dump(mode="json", exclude_defaults=True), option=orjson.OPT_SORT_KEYS)

    @classmethod
    def from_json(cls, text: bytes | str) -> Self:
        """Read a declaration back from its canonical JSON.

        Raises:
            SpecError: The text is not a declaration of this kind.
        """
        try:
            return cls(**orjson.loads(text))
        except (orjson.JSONDecodeError, TypeError) as error:
            raise SpecError(f"is not the JSON of a {cls.__name__}: {error}") from None

    def digest(self) -> str:
        """Return ``sha256:`` and the hash of the canonical JSON."""
        return f"sha256:{hashlib.sha256(self.canonical_json()).hexdigest()}"

    def wrong(self, what: str, *, expected: str | None = None, hint: str | None = None) -> SpecError:
        """Make an error that names this declaration and its place."""
        return SpecError(what, object=self.title, place=self.place, expected=expected, hint=hint)


class Named(Spec):
    """A declaration that others refer to by name.

    Args:
        name: Letters, digits and underscores, not starting with a digit.
        description: One sentence for the catalogue.
        owner: Who answers for it, e.g. a mail address.
        tags: Free text labels.
    """

    positional: ClassVar[tuple[str, ...]] = ("name",)
    name: str
    description: str = ""
    owner: str = ""
    tags: dict[str, str] = {}

    def model_post_init(self, context: Any, /) -> None:
        """Check the name, which becomes part of column names, file names and URLs."""
        super().model_post_init(context)
        if not NAME.match(self.name):
            raise SpecError(
                f'name "{self.name}" cannot be used',
                object=self.title,
                place=_declared_at(),
                expected="letters, digits and underscores, not starting with a digit",
            )
        if "__" in self.name:
            raise SpecError(
                f'name "{self.name}" holds "__", which separates a view from its feature in full feature names',
                object=self.title,
                place=_declared_at(),
                expected="single underscores",
            )


def _declared_at() -> str | None:
    """Find the first caller outside this package: that is the line the user wrote."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        if not file.startswith((_PACKAGE, "<")) and "site-packages" not in file:
            return f"{_shorten(file)}:{frame.f_lineno}"
        frame = frame.f_back
    return None


def _shorten(file: str) -> str:
    try:
        return str(Path(file).relative_to(Path.cwd()))
    except ValueError:
        return file


def _title(kind: str, name: object) -> str:
    return f'{kind} "{name}"' if isinstance(name, str) else kind


def _all_errors(error: ValidationError, kind: type[BaseModel]) -> str:
    lines = [_one_error(dict(item), kind) for item in error.errors(include_url=False)]
    return "; ".join(dict.fromkeys(lines))


def _one_error(item: dict[str, Any], kind: type[BaseModel]) -> str:
    path = ".".join(str(part) for part in item["loc"])
    if item["type"] == "extra_forbidden":
        return f'there is no field "{path}". {nearest(path, kind.model_fields)}'
    if item["type"] == "missing":
        return f'field "{path}" is missing'
    message = item["msg"].removeprefix("Value error, ")
    given = repr(item["input"])
    shown = given if len(given) <= 80 else f"{given[:77]}..."
    return f'field "{path}": {message} (given: {shown})' if path else message
