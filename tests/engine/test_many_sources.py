"""Several sources in this process: computed two at once, and a project's own functions in the caller's thread."""

from __future__ import annotations

import threading
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlflow_core.engine.retrieve import retrieve
from mlflow_core.errors import SourceError
from mlflow_core.plan.retrieval import RetrievalPlan, plan_retrieval
from mlflow_core.spec import Entity, FeatureService, FeatureView, ParquetSource, transform

THREAD_OF = []


@transform
def noting(events: pa.Table) -> pa.Table:
    THREAD_OF.append(threading.current_thread())
    return events


def sources_of(folder: Path, n: int, *, function=None) -> RetrievalPlan:
    views = []
    for i in range(n):
        table = pa.table(
            {"k": [1, 2], f"x{i}": [i, i + 1], "t": pa.array([2**60, 2**61], pa.timestamp("us", "UTC"))}
        )
        pq.write_table(table, folder / f"e{i}.parquet")
        source = ParquetSource(f"e{i}", path=f"e{i}.parquet", event_time="t", transform=function)
        views.append(FeatureView(f"v{i}", entity=Entity("k"), source=source, features=[f"x{i}"]))
    return plan_retrieval(FeatureService("s", views), clock="event")


def asking() -> pa.Table:
    return pa.table({"k": [2, 1, 3], "event_timestamp": pa.array([2**62] * 3, pa.timestamp("us", "UTC"))})


def source_threads() -> list[str]:
    return [one.name for one in threading.enumerate() if one.name.startswith("mlcore-source")]


def test_many_sources_are_computed_two_at_once_and_each_answer_is_its_own(tmp_path):
    found = retrieve(sources_of(tmp_path, 9), asking(), base=str(tmp_path))

    assert [found[f"x{i}"].to_pylist() for i in range(9)] == [[i + 1, i, None] for i in range(9)]
    assert source_threads() == []


def test_of_many_sources_the_first_that_fails_is_told_and_no_thread_is_left(tmp_path):
    plan = sources_of(tmp_path, 6)
    for i in (2, 4):
        file = tmp_path / f"e{i}.parquet"
        file.write_bytes(file.read_bytes()[:4] + bytes(40) + file.read_bytes()[44:])  # its footer is whole

    with pytest.raises(SourceError, match=r"e2"):
        retrieve(plan, asking(), base=str(tmp_path))

    assert source_threads() == []


def test_a_function_of_the_project_is_only_called_in_the_thread_that_asks(tmp_path):
    THREAD_OF.clear()

    retrieve(sources_of(tmp_path, 3, function=noting), asking(), base=str(tmp_path))

    assert set(THREAD_OF) == {threading.current_thread()}
