"""What is told of Feast's objects without Feast is what they are."""

from __future__ import annotations

import pytest

from mlflow_core.plan.stored_form import TYPE_NUMBERS
from mlflow_core.plan.to_feast import feast_type
from mlflow_core.spec import DType
from tests.fresh import loaded_by


@pytest.mark.parametrize("dtype", DType)
def test_every_type_has_the_number_that_feast_gives_it(dtype: DType) -> None:
    assert TYPE_NUMBERS[dtype] == feast_type(dtype).to_value_type().value


@pytest.mark.parametrize("module", ["mlflow_core.plan.stored_form", "mlflow_core.feast.applied"])
def test_asking_for_it_imports_no_feast(module: str) -> None:
    assert loaded_by(f"import {module}", ("feast", "torch", "dask", "pandas")) == []
