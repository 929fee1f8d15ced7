"""Where settings are written: ``mlcore.toml``, ``env/{name}.toml``, ``MLCORE_*`` variables and overrides.

Reads them into one flat table of key, raw value and origin, the later layer winning. Knows which keys exist
only through the names it is given, and nothing of their types: :mod:`mlflow_core.config.settings` does.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mlflow_core.config.secret import resolve_in
from mlflow_core.errors import ConfigError, nearest

FILE: Final = "mlcore.toml"
FEAST_KEYS: Final = (
    "registry",
    "online_store",
    "offline_store",
    "batch_engine",
    "entity_key_serialization_version",
)
"""Keys that Feast reads. They have one home, ``feature_store.yaml``."""


@dataclass(frozen=True)
class Raw:
    """One value as written, with its origin: a file, ``environment NAME`` or ``override``."""

    value: Any
    origin: str


Known = Mapping[str, tuple[str, ...]]
"""Section name -> its keys."""


def read_layers(
    root: Path,
    env: str | None,
    overrides: Mapping[str, str],
    environ: Mapping[str, str],
    known: Known,
    *,
    missing_too: bool = False,
) -> tuple[dict[str, Raw], list[str]]:
    """Collect every value that is set anywhere, and what is wrong with files, keys and references.

    Args:
        root: The project's folder.
        env: The overlay's name, or None for no overlay.
        overrides: ``section.key`` -> text; wins over all else.
        environ: The process's environment.
        known: Which sections and keys exist.
        missing_too: Take secrets without a value, too.

    Returns:
        ``section.key`` -> value and origin, secrets resolved; and what is wrong, a sentence each, for ``raise_all``.

    Raises:
        ConfigError: A file is not there or cannot be read, so that nothing can be said of its keys.
    """
    problems: list[str] = []
    found: dict[str, Raw] = {}

    def keep(key: str, value: object, origin: str) -> None:
        try:
            found[key] = Raw(resolve_in(value, root, environ, missing_too=missing_too), origin)
        except ConfigError as error:
            found.pop(key, None)  # nobody asked for what an earlier layer says
            problems.append(f"{origin}: {key}: {error}")

    for path in _files(root, env):
        origin = path.relative_to(root).as_posix()
        for key, value in _flat(_parse(path, origin), origin, known, problems):
            keep(key, value, origin)
    for section, names in known.items():
        for name in names:
            variable = f"MLCORE_{section}_{name}".upper()
            if variable in environ:
                keep(f"{section}.{name}", environ[variable], f"environment {variable}")
    for key, text in overrides.items():
        section, _, name = key.partition(".")
        problem = _unknown(section, name, "override", known)
        if problem:
            problems.append(problem)
        else:
            keep(key, text, "override")
    return found, problems


def raise_all(problems: list[str]) -> None:
    """Raise one ``ConfigError`` that lists all problems, so that all can be mended at once."""
    if problems:
        head = "" if len(problems) == 1 else f"{len(problems)} settings are wrong:\n  "
        raise ConfigError(head + "\n  ".join(problems))


def _files(root: Path, env: str | None) -> Iterator[Path]:
    if (root / FILE).exists():
        yield root / FILE
    if env is None:
        return
    overlay = root / "env" / f"{env}.toml"
    if not overlay.is_file():
        have = [path.stem for path in (root / "env").glob("*.toml")]
        raise ConfigError(
            f'there is no environment "{env}"',
            place=f"env/{env}.toml",
            expected="that file",
            hint=nearest(env, have),
        )
    yield overlay


def _parse(path: Path, origin: str) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"not valid TOML: {error}", place=origin) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"not UTF-8 text (byte {error.start})", place=origin) from error
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", place=origin) from error


def _flat(
    document: dict[str, Any], origin: str, known: Known, problems: list[str]
) -> Iterator[tuple[str, object]]:
    for section, content in document.items():
        if isinstance(content, dict) and section in known:
            for name, value in content.items():
                problem = _unknown(section, name, origin, known)
                if problem:
                    problems.append(problem)
                else:
                    yield f"{section}.{name}", value
        elif section in known:
            problems.append(f"{origin}: {section}: is a section. Write [{section}] and its keys below it.")
        else:
            problems.append(_unknown(section, "", origin, known) or "")


def _unknown(section: str, name: str, origin: str, known: Known) -> str | None:
    owned = name if name in FEAST_KEYS else section if section in FEAST_KEYS else None
    if owned:
        return (
            f"{origin}: {owned}: belongs in the feature repo's feature_store.yaml, which owns Feast's keys."
            " Move it there."
        )
    if section not in known:
        return f"{origin}: {section}: no such section. {nearest(section, known)}"
    if name not in known[section]:
        return f"{origin}: {section}.{name}: no such key. {nearest(name, known[section])}"
    return None
