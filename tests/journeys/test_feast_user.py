"""A Feast user's repository and script, which use nothing but Feast, run on our stores with only `type:` lines changed.

The same script runs on Feast's own stores first, so that it is shown to be a valid Feast program; on this benign
data (no ties, nothing late, nothing expired) both must print the same. On Redis and PostgreSQL the online store's
section says where the server is, too.
"""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest

from tests.servers.online import BACKENDS, online_section

DEFINITIONS = """
from datetime import timedelta
import pandas as pd
from feast import Entity, FeatureService, FeatureView, Field, FileSource, PushSource, RequestSource
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Float64, Int64, String
from feast.value_type import ValueType

driver = Entity(name="driver", join_keys=["driver_id"], value_type=ValueType.INT64)
stats = FileSource(name="stats", path="data/stats.parquet", timestamp_field="event_timestamp",
                   created_timestamp_column="created")
pushed = PushSource(name="stats_push", batch_source=stats)
driver_stats = FeatureView(name="driver_stats", entities=[driver], ttl=timedelta(days=3650), source=pushed,
    schema=[Field(name="trips", dtype=Int64), Field(name="rate", dtype=Float64), Field(name="city", dtype=String)])
request = RequestSource(name="request", schema=[Field(name="bonus", dtype=Float64)])

@on_demand_feature_view(sources=[driver_stats, request], schema=[Field(name="rate_with_bonus", dtype=Float64)])
def with_bonus(inputs: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame({"rate_with_bonus": inputs["rate"] + inputs["bonus"]})

service = FeatureService(name="drivers", features=[driver_stats, with_bonus])
"""

SCRIPT = """
import json, sys
from datetime import datetime, timedelta, timezone
import pandas as pd
from feast import FeatureStore
from feast.data_source import PushMode

store = FeatureStore(".")
now = datetime.fromisoformat(sys.argv[1])
rows = pd.DataFrame({"driver_id": [2, 1, 3, 1], "bonus": [0.5, 1.0, 1.5, 2.0],
                     "event_timestamp": [now, now - timedelta(hours=30), now, now]})
out = {}
history = store.get_historical_features(entity_df=rows, features=store.get_feature_service("drivers")).to_df()
history = history.sort_values(["driver_id", "event_timestamp"])
out["history"] = json.loads(history[["driver_id", "trips", "rate", "city", "rate_with_bonus"]].to_json(orient="records"))

def online():
    answer = store.get_online_features(features=store.get_feature_service("drivers"),
        entity_rows=[{"driver_id": i, "bonus": 1.0} for i in (3, 1, 2)]).to_dict()
    return {name: answer[name] for name in ("driver_id", "trips", "rate", "city", "rate_with_bonus")}

store.materialize(now - timedelta(days=9), now - timedelta(hours=12))
out["materialised"] = online()
store.materialize_incremental(now)
out["incremental"] = online()
store.push("stats_push", pd.DataFrame({"driver_id": [1], "trips": [77], "rate": [0.77], "city": ["pushed"],
    "event_timestamp": [now + timedelta(minutes=1)], "created": [now + timedelta(minutes=1)]}), to=PushMode.ONLINE_AND_OFFLINE)
out["pushed"] = online()
later = pd.DataFrame({"driver_id": [1], "bonus": [0.0], "event_timestamp": [now + timedelta(minutes=2)]})
out["pushed_offline"] = store.get_historical_features(entity_df=later, features=["driver_stats:trips"]).to_df()["trips"].tolist()
store.write_to_online_store("driver_stats", pd.DataFrame({"driver_id": [9], "trips": [9], "rate": [0.9],
    "city": ["new"], "event_timestamp": [now], "created": [now]}))
out["written"] = store.get_online_features(features=["driver_stats:city"], entity_rows=[{"driver_id": 9}]).to_dict()
out["full_names"] = sorted(store.get_online_features(features=["driver_stats:trips"], entity_rows=[{"driver_id": 1}],
    full_feature_names=True).to_dict())
print(json.dumps(out))
"""

STOCK = {"offline_store": "dask", "online_store": "sqlite", "batch_engine": "local"}
OURS = {
    "offline_store": "mlflow_core.feast.offline_store.DaskOfflineStore",
    "online_store": "mlflow_core.feast.online_store.PackedOnlineStore",
    "batch_engine": "mlflow_core.feast.compute_engine.DaskComputeEngine",
}
NOW = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)


def build_repository(folder: Path, types: dict[str, str], online: dict[str, str]) -> Path:
    (folder / "data").mkdir(parents=True)
    (folder / "feature_store.yaml").write_text(
        "project: drivers\nprovider: local\nentity_key_serialization_version: 3\n"
        "registry:\n  registry_type: sql\n  path: sqlite:///data/registry.db\n"
        f"offline_store:\n  type: {types['offline_store']}\n"
        f"batch_engine:\n  type: {types['batch_engine']}\n"
        f"online_store:\n  type: {types['online_store']}\n"
        + "".join(f"  {name}: {value}\n" for name, value in online.items())
    )
    (folder / "definitions.py").write_text(DEFINITIONS)
    folder.with_suffix(".script.py").write_text(SCRIPT)
    times = [NOW - timedelta(hours=hours) for hours in (60, 36, 6, 48, 20)]
    pd.DataFrame(
        {
            "driver_id": [1, 1, 1, 2, 2],
            "trips": [10, 11, 12, 20, 21],
            "rate": [0.1, 0.11, 0.12, 0.2, 0.21],
            "city": ["a", "b", None, "c", "d"],
            "event_timestamp": pd.Series(times).dt.as_unit("us"),
            "created": pd.Series(times).dt.as_unit("us"),
        }
    ).to_parquet(folder / "data" / "stats.parquet", index=False)
    return folder


def run(folder: Path, *command: str) -> str:
    feast = Path(sys.executable).with_name("feast")
    arguments = [str(feast), *command[1:]] if command[0] == "feast" else [sys.executable, *command]
    done = subprocess.run(arguments, cwd=folder, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, f"{command}: {done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def story(folder: Path, types: dict[str, str], online: dict[str, str]) -> dict[str, object]:
    repository = build_repository(folder, types, online)
    run(repository, "feast", "apply")
    told: dict[str, object] = json.loads(
        run(repository, str(repository.with_suffix(".script.py")), NOW.isoformat()).splitlines()[-1]
    )
    return told


def run_feasts_command(repository: Path) -> None:
    run(repository, "feast", "feature-views", "list")
    run(repository, "feast", "materialize-incremental", (NOW + timedelta(minutes=30)).isoformat())


FILE = {"path": "data/online.db"}


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    folder = tmp_path_factory.mktemp("stock") / "repository"
    told = story(folder, STOCK, FILE)
    run_feasts_command(folder)
    return told


@pytest.fixture(scope="module", params=BACKENDS)
def ours(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    folder = tmp_path_factory.mktemp("ours") / "repository"
    if request.param == "sqlite":
        told = story(folder, OURS, FILE)
        run_feasts_command(folder)
        return told
    with online_section(request.param) as section:
        return story(folder, OURS, {name: section[name] for name in ("backend", "connection")})


@pytest.mark.parametrize(
    "step", ["history", "materialised", "incremental", "pushed", "pushed_offline", "written", "full_names"]
)
def test_a_feast_users_script_gets_the_same_answers_with_only_the_type_lines_changed(
    stock: dict[str, object], ours: dict[str, object], step: str
) -> None:
    assert ours[step] == stock[step]


def test_the_pushed_row_is_served_and_the_unknown_driver_is_null(ours: dict[str, object]) -> None:
    pushed = ours["pushed"]
    assert isinstance(pushed, dict)
    assert pushed["driver_id"] == [3, 1, 2]
    assert pushed["trips"] == [None, 77, 21]
