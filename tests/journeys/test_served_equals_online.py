"""The promise on real data: what training sees under the `served` clock is what the online store answers.

Five moments of 2013; at each, the materialisations due by then have run through Feast, and a hundred flights are
asked for twice: offline as of that moment, and online at that moment. Every value of every feature is compared.
"""

from __future__ import annotations

import math
import shutil
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast import FeatureStore

from feature_repo.prepare_data import prepare
from mlflow_core import sources
from mlflow_core.algebra.types import TIME
from mlflow_core.engine.retrieve import retrieve
from mlflow_core.feast.registry import apply_project, open_store
from mlflow_core.plan.check import check_project
from mlflow_core.plan.load import load_project
from mlflow_core.plan.project import Project
from mlflow_core.plan.retrieval import plan_retrieval

SEED = 20131101
FLIGHTS_A_MOMENT = 100
REQUEST = (
    "scheduled_departure",
    "scheduled_minutes",
    "distance",
    "departure_hour",
    "carrier",
    "origin",
    "dest",
)
KEYS = ("carrier", "tailnum", "origin", "dest", "departure_hour")


def moments(rng: np.random.Generator) -> list[datetime]:
    """Five times of 2013 in order, the first an hour into the data, when hardly any entity has been seen."""
    days = sorted(int(day) for day in rng.choice(np.arange(3, 360), size=4, replace=False))
    later = [
        datetime(2013, 1, 1, tzinfo=UTC)
        + timedelta(days=day, hours=int(rng.integers(0, 24)), minutes=int(rng.integers(0, 60)))
        for day in days
    ]
    return [datetime(2013, 1, 1, 12, 11, tzinfo=UTC), *later]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Project:
    root = tmp_path_factory.mktemp("flights")
    for folder in ("feature_repo", "pipelines"):
        shutil.copytree(
            repository / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__", "*.db*", "data")
        )
    prepare(root / "feature_repo" / "data")
    loaded = load_project(root, name="flights", feature_repo="feature_repo", pipelines="pipelines")
    schemas = check_project(loaded, sources.read_schema)
    apply_project(loaded, schemas, open_store(loaded.repo, create=True))
    return loaded


def drawn(project: Project, rng: np.random.Generator) -> pa.Table:
    """A hundred flights, a few of them by a plane or to a place that nobody has heard of."""
    flights = pq.read_table(project.repo / "data" / "flights.parquet", columns=sorted({*KEYS, *REQUEST}))
    rows = flights.take(rng.choice(flights.num_rows, FLIGHTS_A_MOMENT, replace=False)).to_pylist()
    for i, row in enumerate(rows):
        row["tailnum"] = "N0NE99" if i % 10 == 3 else row["tailnum"]
        row["dest"] = "XYZ" if i % 10 == 7 else row["dest"]
    return pa.Table.from_pylist(rows, schema=flights.schema)


def same(left: Any, right: Any) -> bool:
    """Equal to the bit, but for floats: within the exactness that is promised for means, whose terms are minutes."""
    if left is None or right is None:
        return left is right
    if isinstance(left, float):
        return math.isclose(left, right, rel_tol=1e-9, abs_tol=1e-9) or (
            math.isnan(left) and math.isnan(right)
        )
    return bool(left == right)


def materialised(project: Project, moment: datetime) -> FeatureStore:
    store = open_store(project.repo, clock=moment.isoformat())
    store.materialize(datetime(2013, 1, 1, tzinfo=UTC) - timedelta(days=30), moment)
    return store


def test_500_flights_have_the_same_features_offline_under_the_served_clock_and_online(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(SEED)
    service = project.services["delay_model"]
    compared, missing, differences = Counter[str](), 0, []
    for moment in moments(rng):
        store = materialised(project, moment)
        rows = drawn(project, rng)
        spine = rows.append_column("event_timestamp", pa.array([moment] * rows.num_rows, TIME))
        offline = retrieve(plan_retrieval(service, clock="served"), spine, base=str(project.repo))
        online = store.get_online_features(
            features=store.get_feature_service("delay_model"), entity_rows=rows.to_pylist()
        )
        answers, names = online.to_dict(), [n for n in offline.column_names if n not in spine.column_names]
        missing += sum(
            status == 2 for vector in online.proto.results for status in vector.statuses
        )  # FieldStatus.NOT_FOUND
        for name in names:
            truth = offline[name].to_pylist()
            compared[name] += len(truth)
            differences += [
                (moment, name, row, left, right)
                for row, (left, right) in enumerate(zip(truth, answers[name], strict=True))
                if not same(left, right)
            ]
    print(f"seed {SEED}: {sum(compared.values())} values of {len(compared)} features, {missing} not found")
    assert differences == []
    assert min(compared.values()) == 500
    assert len(compared) >= 40
    assert missing > 100
