"""The section ``[mlflow]``: the tracking server that gets a copy of each run that has ended. Opens nothing."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from mlflow_core.config.secret import Secret
from mlflow_core.config.section import Section
from mlflow_core.config.times import parse_duration
from mlflow_core.errors import UsageError

__all__ = ["MlflowSettings"]


def _is_kept_elsewhere(value: object) -> object:
    """What opens a server is never written: a plain one is refused without being shown."""
    if value is not None and not isinstance(value, Secret):
        raise ValueError("write a reference to it, not the value: ${env:NAME} or ${file:PATH}")
    return value


def _is_a_wait(text: str) -> str:
    try:
        length = parse_duration(text)
    except UsageError as error:
        raise ValueError(str(error)) from error
    if length < 1_000_000:
        raise ValueError("a server cannot answer within less than 1s")
    return text


Reference = Annotated[Secret | None, BeforeValidator(_is_kept_elsewhere)]


class MlflowSettings(Section):
    """Where runs are copied to when they have ended; nowhere unless ``tracking_uri`` is set.

    Args:
        tracking_uri: MLflow's address, e.g. ``http://mlflow.internal:5000``. May hold secrets.
        registry_uri: Where MLflow keeps models; the tracking server if None. May hold secrets.
        experiment: What the runs are put under; the project's name if None.
        models: Whether a registered model's files are copied too, and registered there.
        username: A reference to the user's name, for servers that ask for one.
        password: A reference to the password.
        token: A reference to a bearer token.
        within: How long one run's copy may take before it is given up.
    """

    tracking_uri: str | Secret | None = None
    registry_uri: str | Secret | None = None
    experiment: Annotated[str, Field(min_length=1, max_length=500)] | None = None
    models: bool = False
    username: Reference = None
    password: Reference = None
    token: Reference = None
    within: Annotated[str, AfterValidator(_is_a_wait)] = "1m"

    @property
    def within_s(self) -> float:
        """``within`` in seconds."""
        return parse_duration(self.within) / 1e6
