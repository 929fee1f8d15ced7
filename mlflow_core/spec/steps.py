"""Steps together: pipelines that are made of them alone, and whether each can read what it asks for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Final

from pydantic import Field, model_validator

from mlflow_core.errors import nearest
from mlflow_core.spec.annotations import Kind
from mlflow_core.spec.model import Named
from mlflow_core.spec.schedule import Drifted, Schedule
from mlflow_core.spec.step import Step

__all__ = ["PRODUCTS", "Pipeline", "check_steps", "in_order"]

PRODUCTS: Final[Mapping[str, tuple[Kind, ...]]] = {
    "dataset": ("table", "path"),
    "model": ("path",),
    "evaluation": ("dict",),
}
"""What a step of a training pipeline may read beside other steps, and as what."""

_READ_AS: Final[Mapping[Kind, tuple[Kind, ...]]] = {"table": ("table", "path"), "int": ("int", "float")}
_TAKEN = frozenset(
    (
        *("baselines", "champion", "checks", "clocks", "compare_clocks", "evaluate", "gate", "prepare"),
        *("register", "report", "search", "train"),
        *("model_event", "model_known", "model_served", "registered"),  # how outputs of theirs are called
    )
)
_KEPT = frozenset(
    ("environment", "log")
)  # files of every run; another one of that name would take their place
_TAKEN_PREFIXES = ("dataset_", "train_")


class Pipeline(Named):
    """Steps of the user's own, run in the order in which they need each other; ``mlcore train NAME`` runs it.

    Args:
        name: The pipeline's name.
        steps: The steps, in any order.
        schedule: When it is started by itself; no part of what it computes.

    Example:
        >>> from mlflow_core.spec import step
        >>> @step
        ... def numbers() -> list:
        ...     return [1, 2, 3]
        >>> @step
        ... def total(numbers: list) -> int:
        ...     return sum(numbers)
        >>> [one.name for one in in_order(Pipeline("sums", steps=[total(), numbers()]).steps)]
        ['numbers', 'total']
    """

    positional: ClassVar[tuple[str, ...]] = ("name",)
    steps: tuple[Step, ...] = Field(min_length=1)
    schedule: Schedule | None = None

    if TYPE_CHECKING:

        def __init__(
            self,
            name: str,
            *,
            steps: Sequence[Step],
            schedule: Schedule | None = None,
            description: str = "",
            owner: str = "",
            tags: Mapping[str, str] = ...,
        ) -> None: ...

    @model_validator(mode="after")
    def _fits_together(self) -> Pipeline:
        check_steps(self.steps, {})
        if self.schedule is not None and isinstance(self.schedule.when, Drifted):
            raise ValueError(
                'field "schedule": Drifted() compares with what a model was trained on; a pipeline of steps alone trains none'
            )
        return self


def check_steps(steps: Sequence[Step], products: Mapping[str, tuple[Kind, ...]]) -> None:
    """See that every step's inputs exist, have the type it wants, and wait for no step that waits for it.

    Args:
        steps: The steps of one pipeline.
        products: What else there is to read, as for ``PRODUCTS``.

    Raises:
        ValueError: What does not fit, one sentence for each.
    """
    problems = [*_names(steps, products), *_inputs(steps, products)]
    if not problems and (circle := _circle(steps)):
        problems.append(f"steps wait for each other in a circle: {' -> '.join(circle)}")
    if problems:
        raise ValueError("; ".join(problems))


def in_order(steps: Sequence[Step]) -> tuple[Step, ...]:
    """Return steps so that each comes after those it reads; among equals the order is as written.

    Args:
        steps: Steps that ``check_steps`` found right.
    """
    left = list(steps)
    done: dict[str, Step] = {}
    while left:
        waiting = {one.name for one in left}
        ready = next((one for one in left if not waiting & set(one.inputs.values())), left[0])
        left.remove(ready)
        done[ready.name] = ready
    return tuple(done.values())


def _names(steps: Sequence[Step], products: Mapping[str, tuple[Kind, ...]]) -> Iterator[str]:
    seen: set[str] = set()
    for one in steps:
        if one.name in seen:
            yield f'two steps are called "{one.name}"; give one another with name="..."'
        seen.add(one.name)
        if one.name in _KEPT:
            yield f'a step is called "{one.name}", which every run keeps already; give it another with name="..."'
        built_in = one.name in _TAKEN or one.name.startswith(_TAKEN_PREFIXES)
        if one.name in products or (products and built_in):
            yield f'a step is called "{one.name}", which is a step of every training; give it another with name="..."'


def _inputs(steps: Sequence[Step], products: Mapping[str, tuple[Kind, ...]]) -> Iterator[str]:
    readable = {**products, **{one.name: _READ_AS.get(one.gives, (one.gives,)) for one in steps}}
    for one in steps:
        for parameter, source in one.inputs.items():
            what = f'step "{one.name}" reads "{source}"'
            named = "" if source == parameter else f' as "{parameter}"'
            if source not in readable:
                yield f"{what}{named}, and there is no such step. {nearest(source, readable)}".rstrip(".")
            elif source == one.name:
                yield f"{what}{named}, its own output"
            elif (kind := one.takes.get(parameter)) is not None and kind not in readable[source]:
                gives = " or ".join(_SHOWN[it] for it in readable[source])
                yield f"{what} as {_SHOWN[kind]}, and that is {gives}"


_SHOWN: Final[Mapping[Kind, str]] = {
    "table": "pyarrow.Table",
    "path": "Path",
    "dict": "dict",
    "list": "list",
    "str": "str",
    "int": "int",
    "float": "float",
    "bool": "bool",
    "none": "None",
}


def _circle(steps: Sequence[Step]) -> list[str]:
    needs = {one.name: list(one.inputs.values()) for one in steps}
    done: set[str] = set()

    def visit(name: str, path: list[str]) -> list[str]:
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done or name not in needs:
            return []
        for other in needs[name]:
            if found := visit(other, [*path, name]):
                return found
        done.add(name)
        return []

    return next((found for name in needs if (found := visit(name, []))), [])
