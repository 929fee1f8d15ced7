"""Materialisations around an erasure: keys that hold the erased one, and an erasure while a run is under way."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast import FeatureStore

from mlflow_core.cli.boundary import run
from mlflow_core.config import FixedClock, Principal, parse_time
from mlflow_core.errors import StoreError
from mlflow_core.feast.kept_rows import key_types, layout_caches, online_backend, stored_tables
from mlflow_core.feast.registry import open_store
from mlflow_core.metadata import MetadataStore
from mlflow_core.online.backend import Ask, OnlineBackend, OnlineTable
from mlflow_core.online.erasing import bury
from mlflow_core.online.head import is_tombstone
from mlflow_core.online.keys import encode_key
from mlflow_core.plan.erasures import NOTHING_ERASED, Erasure, Erasures
from mlflow_core.spec import DType
from tests.serve.shop import TIME, at

PACKAGE = "erased_stalls"
VISITS = OnlineTable("visits", ("stall", "customer"))
_YAML = """\
project: stalls
provider: local
registry: {registry_type: sql, path: "sqlite:///data/registry.db"}
offline_store: {type: mlflow_core.feast.offline_store.DaskOfflineStore, workdir: work}
online_store: {type: mlflow_core.feast.online_store.PackedOnlineStore, path: data/online.db}
batch_engine: {type: mlflow_core.feast.compute_engine.DaskComputeEngine}
entity_key_serialization_version: 3
"""
_REPO = """\
import mlflow_core as ml

visit = ml.Entity("visit", keys=["stall", "customer"])
source = ml.ParquetSource("visits", path="data/visits.parquet", event_time="at")
visits = ml.FeatureView(
    "visits", entity=visit, source=source, availability=ml.Every("1h"),
    features=["spent", ml.Agg("spent", "sum", over="7d", name="spent_7d")],
)
"""
ERASED_AT = parse_time("2024-01-10T10:30Z")
ANNA = Erasures.of([Erasure(("customer",), ("anna",), ERASED_AT)])


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    repo = tmp_path / PACKAGE
    (repo / "data").mkdir(parents=True)
    (tmp_path / "mlcore.toml").write_text(f'[project]\nfeature_repo = "{PACKAGE}"\n')
    (repo / "__init__.py").touch()
    (repo / "feature_store.yaml").write_text(_YAML)
    (repo / "stalls.py").write_text(_REPO)
    visits = {
        "stall": pa.array([1, 1, 2, 2], pa.int64()),
        "customer": ["anna", "bert", "anna", "anna"],
        "spent": [1, 2, 4, 8],
        "at": pa.array([at(10, 8), at(10, 8), at(10, 9), at(10, 11, 30)], TIME),
    }
    pq.write_table(pa.table(visits), repo / "data" / "visits.parquet")
    assert run(["--root", str(tmp_path), "apply"]) == 0
    return open_store(repo, clock="2024-01-10T12:30Z")


@pytest.fixture
def backend(store: FeatureStore) -> Any:
    opened = online_backend(store.config, FixedClock(ERASED_AT))
    yield opened
    opened.close()


def materialised(store: FeatureStore, hour: int, *told: Erasures) -> None:
    """Materialise to an hour; the erasures are told one after the other, as somebody would erase meanwhile."""
    engine: Any = store._get_provider().batch_engine
    if told:
        waiting = iter(told)
        engine.erasures = lambda config: next(waiting)
    store.materialize(datetime(2024, 1, 1, tzinfo=UTC), at(10, hour))
    assert [job.failure for job in engine.last_jobs] == [None]


def stored(backend: OnlineBackend) -> dict[tuple[int, str], str]:
    keys = [(1, "anna"), (1, "bert"), (2, "anna")]
    [found] = backend.read([Ask(VISITS.keys, ("visits",), [encode_key(key) for key in keys])])
    return {
        key: "nothing" if value is None else "tombstone" if is_tombstone(value) else "row"
        for key, [value] in zip(keys, found, strict=True)
    }


ROWS = {(1, "anna"): "row", (1, "bert"): "row", (2, "anna"): "row"}
WITHOUT_ANNA = {(1, "anna"): "tombstone", (1, "bert"): "row", (2, "anna"): "tombstone"}


def test_what_an_applied_repository_keeps_is_found(store: FeatureStore) -> None:
    assert stored_tables(store) == (VISITS,)
    assert key_types(store) == {"stall": DType.INT64, "customer": DType.STRING}
    assert [cache.folder for cache in layout_caches(store.config)][1:] == [Path("work/layouts")]


def test_a_person_in_a_composite_key_stays_gone_until_the_next_visit(store, backend) -> None:
    materialised(store, 10, NOTHING_ERASED, NOTHING_ERASED)
    assert stored(backend) == ROWS

    assert bury(backend, stored_tables(store), ANNA) == {"visits": 2}
    materialised(store, 11, ANNA, ANNA)
    assert stored(backend) == WITHOUT_ANNA

    materialised(store, 12, ANNA, ANNA)
    assert stored(backend) == WITHOUT_ANNA | {(2, "anna"): "row"}
    names = ["visits:spent_7d", "visits:spent"]
    answer = store.get_online_features(names, [{"stall": 2, "customer": "anna"}]).to_dict()
    assert (answer["spent_7d"], answer["spent"]) == ([8], [8])


def test_rows_that_feast_writes_late_resurrect_nobody(store, backend) -> None:
    with MetadataStore(
        f"sqlite:///{Path(store.config.repo_path).parent}/.mlcore/metadata.db",
        FixedClock(ERASED_AT),
        Principal("test"),
        project="stalls",
    ) as metadata:
        metadata.record_erasure(["customer"], encode_key(("anna",)), ERASED_AT)
    late = {"stall": [7, 1], "customer": ["anna", "bert"], "spent": [1, 5], "spent_7d": [1, 5]}

    store.write_to_online_store("visits", pd.DataFrame({**late, "at": [at(10, 9)] * 2}))

    [found] = backend.read(
        [Ask(VISITS.keys, ("visits",), [encode_key((7, "anna")), encode_key((1, "bert"))])]
    )
    assert [value is None for [value] in found] == [True, False]


@pytest.mark.parametrize("until", [ERASED_AT, parse_time("2024-01-10T09:30Z")], ids=["now", "the past"])
def test_who_is_erased_while_a_run_is_under_way_is_gone_when_it_ends(store, backend, until) -> None:
    erased = Erasures.of([Erasure(("customer",), ("anna",), until)])
    materialised(store, 10, NOTHING_ERASED, erased)
    assert stored(backend) == WITHOUT_ANNA

    materialised(store, 12, erased, erased)
    assert stored(backend) == WITHOUT_ANNA | {(2, "anna"): "row"}


def test_a_run_that_dies_before_who_was_erased_meanwhile_is_buried_is_seen_as_unfinished(
    store, backend, monkeypatch
) -> None:
    class Killed(BaseException):
        """Nothing of ours catches it, as nothing catches a signal."""

    def dies(*_: Any, **__: Any) -> None:
        raise Killed

    monkeypatch.setattr("mlflow_core.feast.view_run.bury", dies)
    with pytest.raises(Killed):
        materialised(store, 10, NOTHING_ERASED, ANNA)
    monkeypatch.undo()
    assert backend.unfinished() == {"visits": int(at(10, 10).timestamp()) * 1_000_000}
    assert stored(backend) == ROWS

    materialised(store, 10, ANNA, ANNA)

    assert stored(backend) == WITHOUT_ANNA


def test_a_store_that_is_away_for_a_moment_still_loses_who_was_erased_meanwhile(
    store, backend, monkeypatch
) -> None:
    attempts: list[object] = []

    def away_at_first(*args: Any, **how: Any) -> object:
        attempts.append(args)
        if len(attempts) == 1:
            raise StoreError("is locked") from OSError("locked")
        return bury(*args, **how)

    monkeypatch.setattr("mlflow_core.feast.view_run.bury", away_at_first)
    materialised(store, 10, NOTHING_ERASED, ANNA)

    assert (len(attempts), stored(backend)) == (2, WITHOUT_ANNA)


def test_a_run_that_did_not_end_is_cleaned_of_who_was_erased_meanwhile(store, backend) -> None:
    materialised(store, 10, NOTHING_ERASED, NOTHING_ERASED)
    backend.begin(VISITS, int(at(10, 11).timestamp()) * 1_000_000)  # a run that was killed

    materialised(store, 11, ANNA, ANNA)

    assert stored(backend) == WITHOUT_ANNA


def test_later_events_of_an_erasure_long_ago_come_back_when_all_is_written_again(store, backend) -> None:
    materialised(store, 12, NOTHING_ERASED, NOTHING_ERASED)
    bury(backend, stored_tables(store), ANNA)
    assert stored(backend) == WITHOUT_ANNA

    later = open_store(Path(store.config.repo_path), clock="2024-01-10T13:30Z")
    engine: Any = later._get_provider().batch_engine
    engine.rewrite = "changes"
    materialised(later, 13, ANNA, ANNA)
    assert stored(backend) == WITHOUT_ANNA

    engine.rewrite = "all"
    materialised(later, 13, ANNA, ANNA)
    assert stored(backend) == WITHOUT_ANNA | {(2, "anna"): "row"}
