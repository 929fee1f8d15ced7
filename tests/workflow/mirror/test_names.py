"""Every name comes out as one that MLflow's own rules take, and no two as the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow.utils.validation import _validate_metric_name, _validate_param_name, _validate_tag_name

from mlflow_core.workflow.mirror.names import LONGEST_NAME, accepted_names, param_of_text, text_of_param

ODD = st.text(st.sampled_from("ab/.-_ :%@\n\\é"), max_size=12) | st.text(min_size=245, max_size=260)


@given(st.lists(ODD | st.text(max_size=20), unique=True, max_size=12))
def test_mlflow_takes_every_name_and_none_is_another(names):
    found = accepted_names(names)

    assert list(found) == names
    assert len(set(found.values())) == len(names)
    for name in found.values():
        assert len(name) <= LONGEST_NAME
        for check in (_validate_metric_name, _validate_param_name, _validate_tag_name):
            check(name)


@pytest.mark.parametrize("name", ["auc", "test.auc", "a/b", "p 95", "é", "a:b", "_", "x" * LONGEST_NAME])
def test_a_name_that_mlflow_takes_stays_as_it_is(name):
    assert accepted_names([name, f"{name[:50]}%"])[name] == name


@given(st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.booleans())
def test_what_mlflow_wrote_of_a_number_is_read_as_that_number(value):
    read = param_of_text(str(value))

    assert (type(read), str(read)) == (type(value), str(value))


@pytest.mark.parametrize("text", ["007", "1e5", "nan", "inf", "None", "true", "", " 1", "1_000", "0x10"])
def test_a_text_that_is_not_just_that_number_stays_a_text(text):
    assert param_of_text(text) == text


def test_our_values_are_written_as_texts_or_json():
    values = ["hist", 8, 0.1, True, None, [1, "a"], {"b": 2}]

    assert [text_of_param(value) for value in values] == [
        "hist",
        "8",
        "0.1",
        "true",
        "null",
        '[1,"a"]',
        '{"b":2}',
    ]
