"""Values that are referred to and never written: ``${env:NAME}`` and ``${file:PATH}``.

A ``Secret`` prints, compares and serialises as its reference; only :meth:`Secret.reveal` gives the value.
Pickled, it carries the reference and is resolved again where it is used. ``$${`` stands for a literal ``${``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from mlflow_core.errors import ConfigError, nearest

_REFERENCE: Final = re.compile(r"(?<!\$)\$\{([^}]*)\}")
_KINDS: Final = ("env", "file")
_PASSWORD: Final = re.compile(r"://[^:/@\s]*:([^@\s]+)@")
_SHORTEST: Final = 4  # a shorter text is in half of all words, and hiding it would hide them


class Secret:
    """A text with secret references in it, resolved but never shown.

    Args:
        reference: The text as written, e.g. ``postgresql://ml:${env:DB_PASSWORD}@db/ml``.
        value: The same with every reference replaced.
        root: The folder that relative ``${file:...}`` paths start from.
        parts: What each reference stands for.
    """

    __slots__ = ("_parts", "_root", "_value", "reference")

    def __init__(self, reference: str, value: str, root: Path, parts: tuple[str, ...] = ()) -> None:
        self.reference = reference
        self._value = value
        self._root = root
        self._parts = parts

    def reveal(self) -> str:
        """The value. Hand it straight to what needs it; do not keep, print or store it."""
        return self._value

    def hidden(self) -> tuple[str, ...]:
        """What must not be seen of it: the whole, what each reference stands for, a password in a url, each long line.

        Example:
            >>> resolve("postgresql://ml:${env:PW}@db/ml", Path("."), {"PW": "tiger-42"}).hidden()
            ('postgresql://ml:tiger-42@db/ml', 'tiger-42')
        """
        inside = [*self._parts, *_PASSWORD.findall(self._value)]
        texts = [one for text in (*inside, *map(unquote, inside)) for one in (text, *text.splitlines())]
        return (
            self._value,
            *dict.fromkeys(one for one in texts if len(one) >= _SHORTEST and one != self._value),
        )

    @property
    def missing(self) -> str | None:
        """Why there is no value, or None where there is one."""
        return None

    def __repr__(self) -> str:
        return f"Secret({self.reference})"

    def __str__(self) -> str:
        return self.reference

    def __format__(self, spec: str) -> str:
        return format(self.reference, spec)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self.reference == other.reference

    def __hash__(self) -> int:
        return hash(self.reference)

    def __reduce__(self) -> tuple[object, ...]:
        return (_resolve_again, (self.reference, self._root))

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Pydantic takes a ``Secret`` as it is and serialises its reference."""
        return core_schema.is_instance_schema(cls, serialization=core_schema.to_string_ser_schema())


class MissingSecret(Secret):
    """A secret whose value is not there, for those who only show references.

    Args:
        reference: The text as written.
        root: The folder that relative ``${file:...}`` paths start from.
        why: Why there is no value.
    """

    __slots__ = ("_why",)

    def __init__(self, reference: str, root: Path, why: ConfigError) -> None:
        super().__init__(reference, "", root)
        self._why = why

    @property
    def missing(self) -> str:
        """Why there is no value, e.g. ``the environment variable DB_PASSWORD is not set``."""
        return self._why.what

    def reveal(self) -> str:
        """Refuse: there is no value.

        Raises:
            ConfigError: Always.
        """
        raise self._why

    def hidden(self) -> tuple[str, ...]:
        """Nothing: what is not there cannot be seen."""
        return ()


def reveal(text: str | Secret) -> str:
    """The plain text of a setting that may hold a secret."""
    return text.reveal() if isinstance(text, Secret) else text


def resolve(text: str, root: Path, environ: Mapping[str, str] | None = None) -> str | Secret:
    """Replace the references in a text.

    Args:
        text: A setting's text.
        root: The folder that relative ``${file:...}`` paths start from.
        environ: The environment; the process's own if None.

    Returns:
        The text itself where it has no reference, else a ``Secret``.

    Raises:
        ConfigError: A reference of an unknown kind, a variable that is not set, a file that cannot be read.
    """
    environ = os.environ if environ is None else environ
    pieces, parts = [], []
    end = 0
    for match in _REFERENCE.finditer(text):
        parts.append(_look_up(match.group(1), root, environ))
        pieces += [text[end : match.start()].replace("$${", "${"), parts[-1]]
        end = match.end()
    pieces.append(text[end:].replace("$${", "${"))
    value = "".join(pieces)
    return Secret(text, value, root, tuple(parts)) if end else value


def resolve_in(
    value: object, root: Path, environ: Mapping[str, str] | None = None, *, missing_too: bool = False
) -> object:
    """Replace the references in every text of a value, which may be a table or a list; see ``resolve``.

    Args:
        value: A text, a table or a list of such.
        root: The folder that relative ``${file:...}`` paths start from.
        environ: The environment; the process's own if None.
        missing_too: Take a ``MissingSecret`` where a variable is not set or a file cannot be read.

    Raises:
        ConfigError: As ``resolve``; with ``missing_too`` only for what is no reference.
    """
    if isinstance(value, str):
        try:
            return resolve(value, root, environ)
        except ConfigError as error:
            if not missing_too:
                raise
            for match in _REFERENCE.finditer(value):
                _kind_and_name(match.group(1))  # what is no reference at all is wrong for everybody
            return MissingSecret(value, root, error)
    if isinstance(value, Mapping):
        return {key: resolve_in(one, root, environ, missing_too=missing_too) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [resolve_in(one, root, environ, missing_too=missing_too) for one in value]
    return value


def secrets_in(value: object) -> Iterator[Secret]:
    """Find the secrets in a value, which may be a table or a list of such."""
    if isinstance(value, Secret):
        yield value
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from secrets_in(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from secrets_in(one)


def hidden_in(value: object, root: Path) -> Iterator[str]:
    """Find what must not be seen of references in a value that was not resolved, such as a declared source.

    Args:
        value: A text, a table or a list of such.
        root: The folder that relative ``${file:...}`` paths start from.
    """
    if isinstance(value, str):
        with suppress(ConfigError):  # what is not set cannot be seen either
            yield from (text for one in secrets_in(resolve(value, root)) for text in one.hidden())
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from hidden_in(one, root)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from hidden_in(one, root)


def reveal_in(value: Any) -> Any:
    """Replace every secret in a value, which may be a table or a list, by what it stands for."""
    if isinstance(value, Mapping):
        return {key: reveal_in(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [reveal_in(one) for one in value]
    return reveal(value)


def _kind_and_name(reference: str) -> tuple[str, str]:
    kind, colon, name = reference.partition(":")
    if not colon or not name or kind not in _KINDS:
        raise ConfigError(
            f'"${{{reference}}}" is not a reference',
            expected="${env:NAME} or ${file:PATH}",
            hint=nearest(kind, _KINDS) if colon and name else 'Write "$${" for a literal "${".',
        )
    return kind, name


def _look_up(reference: str, root: Path, environ: Mapping[str, str]) -> str:
    kind, name = _kind_and_name(reference)
    if kind == "env":
        if name not in environ:
            raise ConfigError(
                f"the environment variable {name} is not set", hint=f"Set it: export {name}=..."
            )
        return environ[name]
    path = root / Path(name).expanduser()
    try:
        return path.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(f'the secret file "{path}" cannot be read: {reason}') from error


def _resolve_again(reference: str, root: Path) -> str | Secret:
    return resolve(reference, root)
