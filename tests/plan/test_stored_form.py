"""What is told of Feast's objects without Feast is what they are."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from mlflow_core.plan.stored_form import TYPE_NUMBERS
from mlflow_core.plan.to_feast import feast_type
from mlflow_core.spec import DType
from tests.house.repository import ROOT


@pytest.mark.parametrize("dtype", DType)
def test_every_type_has_the_number_that_feast_gives_it(dtype: DType) -> None:
    assert TYPE_NUMBERS[dtype] == feast_type(dtype).to_value_type().value


@pytest.mark.parametrize("module", ["mlflow_core.plan.stored_form", "mlflow_core.feast.applied"])
def test_asking_for_it_imports_no_feast(module: str) -> None:
    code = f"import sys, {module}; print(sorted({{'feast', 'torch', 'dask', 'pandas'}} & set(sys.modules)))"

    answer = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )

    assert answer.stdout.strip() == "[]"
