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
    field_validator,
    model_serializer,
)

from mlflow_core.errors import SpecError
from mlflow_core.spec.messages import what_is_wrong
from mlflow_core.spec.shown import represented, signature_of

__all__ = ["NAME", "Named", "Spec", "declared_at"]

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
        place = declared_at()
        title = _title(type(self).__name__, args[0] if args else fields.get("name"))
        if len(args) > len(self.positional):
            raise SpecError(
                f"takes at most {len(self.positional)} arguments by position, {len(args)} were given",
                object=title,
                place=place,
                expected=f"({', '.join(self.positional)}) and the rest by name"
                if self.positional
                else "names only",
            )
        given = dict(zip(self.positional, args, strict=False))
        twice = sorted(set(given) & set(fields))
        if twice:
            raise SpecError(f"{twice[0]} was given twice", object=title, place=place)
        try:
            super().__init__(**given, **fields)
        except ValidationError as error:
            raise SpecError(what_is_wrong(error, type(self)), object=title, place=place) from None
        self._place = place

    def __eq__(self, other: object) -> bool:
        # Windows of "24h" and "1d" are equally long but name their columns differently, so the text counts too.
        return (
            isinstance(other, Spec)
            and type(self) is type(other)
            and self.__dict__ == other.__dict__
            and self.canonical_json() == other.canonical_json()
        )

    def __repr__(self) -> str:
        return represented(self, self.positional)

    def __str__(self) -> str:
        return represented(self, self.positional)

    def __hash__(self) -> int:
        return hash((type(self), self.canonical_json()))

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Show the arguments as they may be given: first those by position, then those by name."""
        super().__pydantic_init_subclass__(**kwargs)
        cls.__signature__ = signature_of(cls, cls.positional)

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
            fields = orjson.loads(text)
        except orjson.JSONDecodeError as error:
            raise SpecError(f"is not JSON: {error}", object=cls.__name__) from None
        if not isinstance(fields, dict):
            raise SpecError("is not the JSON of a declaration", object=cls.__name__, expected="a JSON object")
        return cls(**fields)

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

    @field_validator("name")
    @classmethod
    def _usable(cls, name: str) -> str:
        # The name becomes part of column names, file names and URLs.
        if not NAME.match(name):
            raise ValueError(
                f'"{name}" is not a name of letters, digits and underscores, not starting with a digit'
            )
        if "__" in name:
            raise ValueError(
                f'"{name}" holds "__", which separates a view from its feature in full feature names'
            )
        return name


def declared_at() -> str | None:
    """Find the first caller outside this package: that is the line the user wrote."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        if frame.f_code.co_name == "from_json" and file == __file__:
            return None  # read back from a text: whoever reads it has not declared it
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
