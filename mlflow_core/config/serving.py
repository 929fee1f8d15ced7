"""The section ``[serve]``: where the server listens, and who may write through it. Opens nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from mlflow_core.config.secret import Secret
from mlflow_core.config.section import Section

__all__ = ["SHORTEST_TOKEN", "ServeSettings"]

SHORTEST_TOKEN = 16
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9@._:+-]*")


def _are_references(value: object) -> object:
    """A token is never written: a plain one is refused without being shown."""
    if not isinstance(value, Mapping):
        raise ValueError('expected a table: [serve.tokens] with lines like name = "${env:NAME_OF_VARIABLE}"')
    for name, token in value.items():
        if not isinstance(token, Secret):
            raise ValueError(
                f"{name}: write a reference to the token, not the token: ${{env:NAME}} or ${{file:PATH}}"
            )
    return value


def _can_be_told_apart(tokens: Mapping[str, Secret]) -> Mapping[str, Secret]:
    seen: dict[str, str] = {}
    for name, secret in tokens.items():
        if not _NAME.fullmatch(name):
            raise ValueError(f'"{name}" is no name: letters, digits and @ . _ : + - are')
        if secret.missing:
            continue
        token = secret.reveal()
        if len(token) < SHORTEST_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
            raise ValueError(
                f"{name}: a token has at least {SHORTEST_TOKEN} letters and digits, and no space"
            )
        if token in seen:
            raise ValueError(f"{name} and {seen[token]} have one token, so nobody could tell who writes")
        seen[token] = name
    return tokens


class ServeSettings(Section):
    """Where the server listens, and who may write through it.

    Args:
        host: An address of this machine; the loopback unless told otherwise.
        port: 0 takes a free one.
        tokens: Who may push and delete: a name, which every change is recorded with, and a reference to that
            caller's bearer token. Tokens that ``mlcore tokens create`` made count beside them.
    """

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    tokens: Annotated[
        Mapping[str, Secret], BeforeValidator(_are_references), AfterValidator(_can_be_told_apart)
    ] = {}
