"""Steps of the user's own: a function that reads what other steps left and whose result is kept for later ones.

Positional parameters are inputs, by default the outputs of the steps of the same names; parameters that are given by
keyword only are settings. A step travels as an import path, never as code. Whether steps fit together is
``mlflow_core.spec.steps``; how one is called is not known here.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, overload

import orjson
from pydantic import Field, field_validator, model_validator

from mlflow_core.errors import SpecError, nearest
from mlflow_core.spec.annotations import (
    OWN,
    Kind,
    hints_of,
    kind_given,
    parameters_of,
    setting_as_json,
    setting_from_json,
)
from mlflow_core.spec.duration import Duration
from mlflow_core.spec.imported import Imported
from mlflow_core.spec.model import NAME, declared_at

__all__ = ["Step", "StepFunction", "step"]


class Step(Imported):
    """One step of a pipeline; made by calling what ``@step`` made of a function.

    Args:
        name: The step's name, by default the function's; its output is read under it.
        import_path: ``module:name`` of the function.
        inputs: Parameter -> the step whose output it reads.
        takes: Parameter -> what the function wants there.
        gives: What the function returns.
        params: The settings that were given, as JSON values.
        retries: How often it is tried again after a crash or a timeout; never after an error of its own.
        timeout: After how long it is ended; None lets it run.
        code: Digest of the code that was applied; empty where the function is at hand.
    """

    positional: ClassVar[tuple[str, ...]] = ("name",)
    name: str
    inputs: dict[str, str] = {}
    takes: dict[str, Kind] = {}
    gives: Kind = "none"
    params: dict[str, Any] = {}
    retries: int = Field(default=0, ge=0)
    timeout: Duration | None = None

    if TYPE_CHECKING:

        def __init__(
            self,
            name: str,
            *,
            import_path: str,
            inputs: Mapping[str, str] = ...,
            takes: Mapping[str, Kind] = ...,
            gives: Kind = "none",
            params: Mapping[str, Any] = ...,
            retries: int = 0,
            timeout: str | timedelta | None = None,
            code: str = "",
        ) -> None: ...

    @field_validator("name")
    @classmethod
    def _usable(cls, name: str) -> str:
        if not NAME.match(name) or "__" in name:
            raise ValueError(f'"{name}" is not a name of letters, digits and single underscores')
        return name

    @field_validator("timeout")
    @classmethod
    def _some_time(cls, timeout: Duration | None) -> Duration | None:
        if timeout is not None and timeout <= 0:
            raise ValueError(f"{timeout} is no time at all")
        return timeout

    @model_validator(mode="after")
    def _of_a_module(self) -> Step:
        if self.import_path.partition(":")[0] == "__main__":
            raise ValueError(
                "a function of a script cannot be imported by another process; define it in a module"
            )
        return self


class StepFunction:
    """What ``@step`` makes of a function: called with settings it gives a step for a pipeline.

    Args:
        function: The function, which stays available as ``.function``.
        retries: How often it is tried again after a crash or a timeout.
        timeout: After how long it is ended; None lets it run.

    Raises:
        SpecError: The function cannot be imported by another process, or its parameters and result are not typed as
            steps need it.
    """

    def __init__(
        self, function: Callable[..., Any], *, retries: int = 0, timeout: str | timedelta | None = None
    ) -> None:
        self.function = function
        self.import_path = f"{function.__module__}:{function.__qualname__}"
        self._retries = retries
        self._timeout = timeout
        with _Placed():
            self._hints = hints_of(function, self.title)
            self.takes, self.settings = parameters_of(function, self._hints, self.title)
            self.gives = kind_given(self._hints, self.title)
        functools.update_wrapper(self, function)
        # What is wrong with the name or the options is told where they are written, not where the step is used.
        Step(function.__name__, **self._fields())

    @property
    def title(self) -> str:
        """How messages call it."""
        return f"step function {self.function.__qualname__}"

    def __call__(
        self, *wrong: Any, name: str | None = None, inputs: Mapping[str, str] | None = None, **params: Any
    ) -> Step:
        """Make a step for a pipeline.

        Args:
            *wrong: A step gets no values here; to call the function itself, use ``.function``.
            name: The step's name, by default the function's.
            inputs: Parameter -> the step to read, where their names differ.
            **params: Settings: the function's keyword-only parameters.

        Raises:
            SpecError: A setting or input does not exist, is missing, or has another type than annotated.
        """
        title = f'Step "{name or self.function.__name__}"'
        with _Placed():
            self._refuse(wrong, inputs or {}, title)
            settings = self._settings(params, title)
        made = Step(
            name or self.function.__name__,
            **self._fields(),
            inputs={parameter: (inputs or {}).get(parameter, parameter) for parameter in self.takes},
            params=settings,
        )
        made._function = self.function
        return made

    def _refuse(self, wrong: tuple[Any, ...], inputs: Mapping[str, str], title: str) -> None:
        if wrong:
            raise SpecError(
                "takes no values here: what it reads is named with inputs=, what it is set to by keyword",
                object=title,
                hint=f"To call the function itself, write {self.function.__name__}.function(...).",
            )
        for parameter in inputs:
            if parameter not in self.takes:
                raise SpecError(
                    f'has no input "{parameter}"', object=title, hint=nearest(parameter, self.takes)
                )

    def _fields(self) -> dict[str, Any]:
        return {
            "import_path": self.import_path,
            "takes": self.takes,
            "gives": self.gives,
            "retries": self._retries,
            "timeout": self._timeout,
        }

    def _settings(self, given: Mapping[str, Any], title: str) -> dict[str, Any]:
        for name in given:
            if name not in self.settings:
                known = [*self.settings, *OWN]
                raise SpecError(f'has no setting "{name}"', object=title, hint=nearest(name, known))
        missing = [name for name, needed in self.settings.items() if needed and name not in given]
        if missing:
            raise SpecError(f'setting "{missing[0]}" is missing', object=title)
        return {
            name: setting_as_json(value, self._hints.get(name, Any), f'setting "{name}"', title)
            for name, value in given.items()
        }

    def read_settings(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Turn settings from JSON back into what the function's annotations say.

        Raises:
            SpecError: One does not fit its annotation.
        """
        return {
            name: setting_from_json(
                orjson.dumps(value), self._hints.get(name, Any), f'setting "{name}"', self.title
            )
            for name, value in params.items()
        }


@overload
def step(function: Callable[..., Any], /) -> StepFunction: ...


@overload
def step(
    *, retries: int = 0, timeout: str | timedelta | None = None
) -> Callable[[Callable[..., Any]], StepFunction]: ...


def step(
    function: Callable[..., Any] | None = None,
    /,
    *,
    retries: int = 0,
    timeout: str | timedelta | None = None,
) -> StepFunction | Callable[[Callable[..., Any]], StepFunction]:
    """Declare a function as a step of pipelines.

    Each positional parameter reads the output of the step of its name, each keyword-only one is a setting. All inputs
    and the result are annotated: ``pyarrow.Table``, ``Path``, ``dict``, ``list``, ``str``, ``int``, ``float``,
    ``bool``; the result may be ``None``.

    Args:
        function: A function at the top level of an importable module.
        retries: How often it is tried again after a crash or a timeout; never after an error of its own.
        timeout: After how long it is ended, e.g. ``"10m"``; None lets it run.

    Returns:
        What is called with settings where a pipeline names its steps.

    Raises:
        SpecError: The function cannot be a step; says why.

    Example:
        >>> @step(retries=2, timeout="10m")
        ... def busiest(counts: dict, *, top: int = 5) -> list:
        ...     return sorted(counts, key=counts.get, reverse=True)[:top]
        >>> made = busiest(top=1)
        >>> made.name, dict(made.inputs), dict(made.params)
        ('busiest', {'counts': 'counts'}, {'top': 1})
        >>> busiest.function({"EWR": 3, "JFK": 7}, top=1)
        ['JFK']
    """
    if function is not None:
        return StepFunction(function)
    return lambda one: StepFunction(one, retries=retries, timeout=timeout)


class _Placed:
    """Says where the user wrote what is wrong; without contextlib, whose frames would be the place."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, SpecError):
            place = declared_at()
            raise SpecError(
                error.what, object=error.object, place=place, expected=error.expected, hint=error.hint
            ) from None
