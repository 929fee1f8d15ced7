"""Steps say what they read and give, and a pipeline whose steps do not fit together is no declaration."""

from __future__ import annotations

import datetime as dt
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pytest

from mlflow_core.errors import SpecError
from mlflow_core.plan.fingerprint import fingerprint
from mlflow_core.spec import Pipeline, Step, StepFunction, step
from mlflow_core.spec.steps import in_order

RATE = 3


@step(retries=2, timeout="10m")
def busiest(counts: pa.Table, *, top: int = 5, since: dt.date | None = None) -> pa.Table:
    return counts.slice(0, top)


@step
def counts() -> pa.Table:
    return pa.table({"n": [1]})


@step
def folder(counts: Path) -> Path:
    return counts


@step
def rate(*, of: Literal["a", "b"]) -> float:
    return {"a": 1.0, "b": 2.0}[of] * RATE


def test_what_stands_by_position_is_read_and_what_is_named_is_set() -> None:
    made = busiest(top=10, since=dt.date(2013, 1, 1))

    assert (made.name, dict(made.inputs), dict(made.takes)) == (
        "busiest",
        {"counts": "counts"},
        {"counts": "table"},
    )
    assert dict(made.params) == {"top": 10, "since": "2013-01-01"}
    assert (made.retries, str(made.timeout), made.gives) == (2, "10m", "table")
    assert made.import_path.endswith(":busiest")


def test_settings_come_back_from_json_as_their_annotations_say() -> None:
    made = busiest(since=dt.date(2013, 1, 1))

    assert busiest.read_settings(made.params) == {"since": dt.date(2013, 1, 1)}


def test_the_function_itself_stays_at_hand() -> None:
    assert busiest.function(pa.table({"n": [3, 2]}), top=1).num_rows == 1
    assert isinstance(busiest, StepFunction)


def test_a_step_is_equal_to_itself_after_json_and_pickle_and_its_code_is_told_by_digest() -> None:
    made = busiest(top=10)

    for other in (Step.from_json(made.canonical_json()), pickle.loads(pickle.dumps(made))):
        assert other == made
        assert other.function is None
        assert len(other.code) == 64
        assert fingerprint(other) == fingerprint(made)


def test_a_pipeline_of_steps_survives_json() -> None:
    made = Pipeline("nightly", steps=[counts(), busiest(top=10)])

    assert Pipeline.from_json(made.canonical_json()) == made


def test_how_often_and_how_long_a_step_is_tried_is_not_what_it_means() -> None:
    plain = step(busiest.function)(top=3)

    assert plain != busiest(top=3)
    assert fingerprint(plain) == fingerprint(busiest(top=3))
    assert fingerprint(plain) != fingerprint(busiest(top=4))


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: busiest(tpo=1), 'has no setting "tpo". Did you mean "top"?'),
        (lambda: busiest(top="ten"), 'setting "top" is "ten"'),
        (lambda: busiest(top=object()), "which is no JSON value"),
        (lambda: busiest(inputs={"count": "x"}), 'has no input "count". Did you mean "counts"?'),
        (lambda: busiest(pa.table({})), "busiest.function(...)"),
        (lambda: busiest(name="a b"), '"a b" is not a name'),
        (lambda: rate(), 'setting "of" is missing'),
        (lambda: rate(of="c"), "'a' or 'b'"),
    ],
)
def test_a_step_that_is_set_wrongly_says_what_is_wrong_and_where(make: Callable[[], Any], told: str) -> None:
    with pytest.raises(SpecError) as raised:
        make()

    assert told in str(raised.value)
    assert "test_step.py:" in str(raised.value)


def _without_annotation(a) -> int:
    return a


def _of_a_set(a: set) -> int:
    return len(a)


def _gives_nothing_known(a: int) -> set:
    return {a}


def _with_default(a: int = 1) -> int:
    return a


def _with_stars(*a: int) -> int:
    return len(a)


def _named_name(*, name: str) -> str:
    return name


def _reads_none(a: None) -> int:
    return 1


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (_without_annotation, 'input "a" has no annotation'),
        (_of_a_set, 'input "a" is annotated as set'),
        (_gives_nothing_known, "the result is annotated as set"),
        (_with_default, 'input "a" has a default'),
        (_with_stars, "has a parameter *a"),
        (_named_name, 'a setting "name"'),
        (_reads_none, 'input "a" is annotated as NoneType'),
        (lambda: 1, "the result has no annotation"),
    ],
)
def test_a_function_that_cannot_be_a_step_is_refused_where_it_is_declared(
    function: Callable[..., Any], told: str
) -> None:
    with pytest.raises(SpecError) as raised:
        step(function)

    assert told in str(raised.value)
    assert "test_step.py:" in str(raised.value)


def test_a_function_inside_another_cannot_be_imported_and_is_refused() -> None:
    def inside() -> int:
        return 1

    with pytest.raises(SpecError, match="define it with def at the top level"):
        step(inside)


@pytest.mark.parametrize("timeout", ["0s", "soon", "10"])
def test_a_timeout_is_a_length_of_time(timeout: str) -> None:
    with pytest.raises(SpecError, match="timeout"):
        step(timeout=timeout)(rate.function)


@pytest.mark.parametrize(
    ("steps", "told"),
    [
        ([busiest()], 'step "busiest" reads "counts", and there is no such step'),
        ([counts(), counts()], 'two steps are called "counts"'),
        ([counts(name="log")], 'a step is called "log", which every run keeps already'),
        ([counts(name="environment")], 'a step is called "environment", which every run keeps already'),
        (
            [rate(of="a"), busiest(inputs={"counts": "rate"})],
            'reads "rate" as pyarrow.Table, and that is float',
        ),
        ([busiest(inputs={"counts": "busiest"})], "its own output"),
        (
            [busiest(name="a", inputs={"counts": "b"}), busiest(name="b", inputs={"counts": "a"})],
            "in a circle: a -> b -> a",
        ),
        ([], "at least 1 item"),
    ],
)
def test_steps_that_do_not_fit_together_make_no_pipeline(steps: list[Step], told: str) -> None:
    with pytest.raises(SpecError) as raised:
        Pipeline("nightly", steps=steps)

    assert told in str(raised.value)
    assert "test_step.py:" in str(raised.value)


def test_several_mistakes_are_told_at_once() -> None:
    with pytest.raises(SpecError) as raised:
        Pipeline("nightly", steps=[busiest(), folder()])

    assert str(raised.value).count("there is no such step") == 2


def test_a_table_may_be_read_as_its_folder_and_order_follows_from_what_is_read() -> None:
    made = Pipeline("nightly", steps=[folder(), busiest(), counts()])

    assert [one.name for one in in_order(made.steps)] == ["counts", "folder", "busiest"]
