"""Plan says whom a change touches and what it costs; apply destroys nothing without a yes, or under a model's feet."""

from __future__ import annotations

import contextlib
import json
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlflow_core.cli.boundary import run
from mlflow_core.config import FixedClock, Principal
from mlflow_core.metadata import MetadataStore

YAML = """project: shop
provider: local
registry: {registry_type: sql, path: sqlite:///data/registry.db}
offline_store: {type: dask}
online_store: {type: sqlite, path: data/online.db}
entity_key_serialization_version: 3
"""
SPECS = """import mlflow_core as ml

customer = ml.Entity("customer")
orders = ml.ParquetSource("orders", path="orders.parquet", event_time="placed")
spending = ml.FeatureView(
    "spending", entity=customer, source=orders,
    features=["amount", ml.Agg("amount", ["sum", "mean"], over="7d")], availability=ml.Every("1h"),
)
visits = ml.FeatureView("visits", entity=customer, source=orders, features=[ml.Agg("*", "count", over="7d")],
    availability=ml.Every("1h"))
offers = ml.FeatureService("offers", [spending])
counts = ml.FeatureService("counts", [visits])
"""
PIPELINE = """import mlflow_core as ml
from feature_repo.specs import offers, orders

rich = ml.TrainingPipeline(
    "rich",
    data=ml.Dataset(features=offers, spine=ml.Spine(orders, at="placed"), label=ml.Label("amount > 100"),
        split=ml.TimeSplit(train_until="1970-01-01T02:00:00", validate_until="1970-01-01T03:00:00")),
    trainer=ml.XGBoost(rounds=2),
)
"""
SECOND = 1_000_000


@dataclass(frozen=True)
class Answer:
    code: int
    out: str
    err: str


def mlcore(*arguments: str, cwd: Path) -> Answer:
    out, err = StringIO(), StringIO()
    with contextlib.chdir(cwd), redirect_stdout(out), redirect_stderr(err):
        code = run(arguments)
    return Answer(int(code), out.getvalue(), err.getvalue())


def planned(shop: Path) -> dict[str, Any]:
    answer = mlcore("plan", "--json", cwd=shop)
    assert answer.code == 4, answer.err
    found: dict[str, Any] = json.loads(answer.out)
    return found


def rewrite(shop: Path, before: str, after: str) -> None:
    file = shop / "feature_repo" / "specs.py"
    assert before in file.read_text()
    file.write_text(file.read_text().replace(before, after))


def metadata(shop: Path, at_us: int = 0) -> MetadataStore:
    url = f"sqlite:///{shop}/.mlcore/metadata.db"
    return MetadataStore(url, FixedClock(at_us), Principal("ana@example.org"), project="shop")


def register(shop: Path, alias: str | None, *, service: str = "offers", view: str = "spending") -> int:
    signature = {"service": service, "fingerprints": {f"view {view}": "x", f"service {service}": "y"}}
    with metadata(shop) as store:
        version = store.register_model_version(
            "rich", None, f"sha256:{view}", {}, signature, alias=alias, why="a test"
        )
        return version.version


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    repo = tmp_path / "feature_repo"
    repo.mkdir()
    (tmp_path / "pipelines").mkdir()
    (tmp_path / "mlcore.toml").write_text("")
    (repo / "feature_store.yaml").write_text(YAML)
    (repo / "specs.py").write_text(SPECS)
    (tmp_path / "pipelines" / "rich.py").write_text(PIPELINE)
    times = pa.array([hour * 3600 * SECOND for hour in range(8)], pa.int64()).cast(pa.timestamp("us", "UTC"))
    table = pa.table({"customer": ["a", "b"] * 4, "amount": [10.0, 200.0] * 4, "placed": times})
    pq.write_table(table, repo / "orders.parquet", row_group_size=1)
    assert mlcore("apply", cwd=tmp_path).code == 0
    return tmp_path


def test_a_new_window_is_a_new_column_and_touches_what_is_made_of_its_view(shop: Path) -> None:
    register(shop, "candidate")
    rewrite(shop, 'over="7d")], availability', 'over=["1d", "7d"])], availability')

    found = planned(shop)

    told = {(one["kind"], one["name"]): one["added"] for one in found["columns"]}
    assert told == {
        ("views", "spending"): {"amount_sum_1d": "double", "amount_mean_1d": "double"},
        ("services", "offers"): {"amount_sum_1d": "double", "amount_mean_1d": "double"},
    }
    assert found["touches"]["pipelines"] == ["rich"]
    assert found["touches"]["models"] == [{"model": "rich:1", "aliases": ["candidate"], "deployed": []}]
    assert found["destroys"] == []
    assert mlcore("apply", cwd=shop).code == 0


def test_a_change_that_only_people_read_touches_nothing(shop: Path) -> None:
    register(shop, "champion")
    rewrite(shop, '"offers", [spending]', '"offers", [spending], description="What to offer."')

    found = planned(shop)

    assert found["summary"]["change"] == 1
    assert (found["touches"], found["recompute"]) == ({"pipelines": [], "models": []}, [])


def test_a_model_of_another_view_is_not_touched(shop: Path) -> None:
    register(shop, "champion", service="counts", view="visits")
    rewrite(shop, '["sum", "mean"]', '["sum"]')

    found = planned(shop)

    assert found["touches"]["models"] == []
    assert [one["what"] for one in found["destroys"]] == ["loses amount_mean_7d"] * 2
    assert mlcore("apply", "--yes", cwd=shop).code == 0


def test_what_destroys_needs_a_yes_and_changes_nothing_without(shop: Path) -> None:
    rewrite(shop, "counts = ml.FeatureService", "unused = lambda *_: None  #")

    refused = mlcore("apply", cwd=shop)

    assert refused.code == 2
    assert "counts (feature service): is removed" in refused.err
    assert "--yes" in refused.err
    assert planned(shop)["summary"] == {"add": 0, "change": 0, "remove": 1}
    assert mlcore("apply", "--yes", cwd=shop).code == 0
    assert mlcore("plan", cwd=shop).code == 0


@pytest.mark.parametrize("how", ["champion", "deployed"])
def test_what_an_answering_model_reads_is_destroyed_only_by_force_which_is_recorded(
    shop: Path, how: str
) -> None:
    version = register(shop, "champion" if how == "champion" else None)
    if how == "deployed":
        with metadata(shop) as store:
            store.start_deployment("rich", version, "production", "a test")
    rewrite(shop, '["sum", "mean"]', '["sum"]')

    refused = mlcore("apply", "--yes", cwd=shop)
    assert refused.code == 2
    assert "spending (feature view): loses amount_mean_7d, which rich:1" in refused.err
    assert planned(shop)["destroys"][0]["used_by"] == ["rich:1"]

    assert mlcore("apply", "--force", cwd=shop).code == 2  # a yes is needed all the same
    assert mlcore("apply", "--yes", "--force", "--as", "ben@example.org", cwd=shop).code == 0
    with metadata(shop) as store:
        forced = [one for one in store.audit_entries(limit=1000) if one.action == "apply.force"]
        assert store.audit_verify().ok
    (row,) = forced
    assert row.principal == "ben@example.org"
    details = json.loads(row.details)["forced"]
    assert {(one["kind"], one["name"], one["model"]) for one in details} == {
        ("views", "spending", "rich:1"),
        ("services", "offers", "rich:1"),
    }


def test_a_candidate_stands_in_nobodys_way(shop: Path) -> None:
    register(shop, "candidate")
    rewrite(shop, '["sum", "mean"]', '["sum"]')

    assert mlcore("apply", "--yes", cwd=shop).code == 0


def test_what_an_answering_model_reads_is_not_computed_otherwise_without_force(shop: Path) -> None:
    with metadata(shop) as store:
        last = store.last_apply()
        assert last is not None
        (view,) = [one for one in store.specs_of(last.id) if (one.kind, one.name) == ("views", "spending")]
        signature = {"service": "offers", "fingerprints": {"view spending": view.fingerprint}}
        store.register_model_version("rich", None, "sha256:m", {}, signature, alias="champion", why="a test")
    # The same columns of the same types, of other rows.
    aggregate = '["sum", "mean"], over="7d"'
    rewrite(shop, aggregate, f'{aggregate}, where="amount > 50"')

    assert [(one["name"], one["what"], one["used_by"]) for one in planned(shop)["destroys"]] == [
        ("spending", "is computed otherwise", ["rich:1"])
    ]
    refused = mlcore("apply", "--yes", cwd=shop)
    assert refused.code == 2
    assert "spending (feature view): is computed otherwise, which rich:1 (@champion) reads" in refused.err

    assert mlcore("apply", "--yes", "--force", cwd=shop).code == 0
    # The model answers no more: nothing further is taken from it, and nothing by going back.
    rewrite(shop, "amount > 50", "amount > 60")
    assert mlcore("apply", cwd=shop).code == 0
    rewrite(shop, ', where="amount > 60"', "")
    assert mlcore("apply", cwd=shop).code == 0


def test_what_is_computed_again_is_told_with_the_rate_of_the_fullest_run(shop: Path) -> None:
    with metadata(shop) as store:
        for rows, seconds, hour in ((2, 2, 3), (1, 50, 7)):
            started = hour * 3600 * SECOND
            store.record_materialisation(
                "spending", started, rows=rows, started_us=started, ended_us=started + seconds * SECOND
            )
    rewrite(shop, 'over="7d")], availability', 'over=["1d", "7d"])], availability')

    (view,) = planned(shop)["recompute"]

    # The run that wrote two entities read the four events until 03:00 in two seconds; there are eight now.
    assert (view["kind"], view["name"], view["rows"]) == ("view", "spending", 8)
    assert view["seconds"] == pytest.approx(4.0)
    assert view["bytes"] == 8 * (24 + 8 + 8)
    assert "2 events a second" in view["why"]


def test_what_was_never_measured_is_unknown(shop: Path) -> None:
    with metadata(shop) as store:
        store.register_dataset("rich", "sha256:d", schema={}, rows={"train": 2}, clock="event")
        store.finish_run(store.create_run("rich").id, "failed")
        store.record_materialisation("spending", 0, rows=1, started_us=5, ended_us=5)
    rewrite(shop, 'over="7d")], availability', 'over=["1d", "7d"])], availability')

    found = {(one["kind"], one["name"]): one for one in planned(shop)["recompute"]}

    assert set(found) == {("view", "spending"), ("dataset", "rich"), ("training", "rich")}
    assert {one["seconds"] for one in found.values()} == {None}
    assert found["dataset", "rich"]["rows"] == 8
    assert "unknown" in mlcore("plan", cwd=shop).out


def test_a_training_set_takes_as_long_by_row_as_in_the_last_run_that_built_one(shop: Path) -> None:
    with metadata(shop) as store:
        record = store.register_dataset("rich", "sha256:d", schema={}, rows={"train": 2}, clock="event")
        run_id = store.create_run("rich").id
        store.use_dataset(run_id, record.id)
        steps = {name: store.start_step(run_id, name).id for name in ("dataset", "train")}
    with metadata(shop, at_us=3 * SECOND) as store:
        for step in steps.values():
            store.finish_step(step, output_digest="sha256:d")
        store.finish_run(run_id, "succeeded")
    rewrite(shop, 'over="7d")], availability', 'over=["1d", "7d"])], availability')

    dataset, training = planned(shop)["recompute"]

    assert (dataset["rows"], dataset["seconds"]) == (8, pytest.approx(8 / (2 / 3)))
    assert (training["rows"], training["seconds"]) == (None, pytest.approx(3.0))


def test_a_plan_in_a_pipe_is_no_wider_than_80_columns(shop: Path) -> None:
    register(shop, "champion")
    with metadata(shop) as store:
        store.record_materialisation("spending", 3600 * SECOND, rows=2, started_us=0, ended_us=SECOND)
    rewrite(shop, '["sum", "mean"]', '["sum"]')

    text = mlcore("plan", cwd=shop).out

    assert "Destroys:" in text
    assert "used by rich:1 (@champion)" in text
    table = text[text.index("To be computed again:") : text.index("Destroys:")]
    assert max(len(line) for line in table.splitlines()) <= 80
