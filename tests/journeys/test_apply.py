"""From a folder with declarations to an applied registry, through the real command; and every way it can go wrong."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sqlite3
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlflow_core.cli.boundary import run
from mlflow_core.config import Principal, SystemClock, os_principal
from mlflow_core.feast.registry import open_store
from mlflow_core.metadata import MetadataStore

YAML = """project: shop
provider: local
registry:
  registry_type: sql
  path: sqlite:///data/registry.db
  sqlalchemy_config_kwargs: {connect_args: {timeout: 0.2}}
offline_store: {type: dask}
online_store: {type: sqlite, path: data/online.db}
entity_key_serialization_version: 3
"""
SPECS = """import mlflow_core as ml

customer = ml.Entity("customer")
orders = ml.ParquetSource("orders", path="orders.parquet", event_time="at")
spending = ml.FeatureView(
    "spending", entity=customer, source=orders, owner="shop@example.org",
    columns={"big": "amount > 100"},
    features=["amount", ml.Agg("amount", ["sum", "mean"], over="7d"), ml.Agg("*", "count", over="7d", where="big")],
    availability=ml.Every("1h"), ttl="30d",
)


@ml.on_demand(inputs=[spending], request={"basket": float})
def basket(x):
    return {"basket_share": x["basket"] / x["amount_mean_7d"]}


offers = ml.FeatureService("offers", [spending, basket])
"""
FEATURES = ["amount", "amount_sum_7d", "amount_mean_7d", "spending_count_7d", "basket_share"]


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    repo = tmp_path / "feature_repo"
    repo.mkdir()
    (tmp_path / "mlcore.toml").write_text("")
    (repo / "feature_store.yaml").write_text(YAML)
    (repo / "specs.py").write_text(SPECS)
    times = pa.array([0, 3_600_000_000], pa.int64()).cast(pa.timestamp("us", "UTC"))
    pq.write_table(
        pa.table({"customer": ["a", "b"], "amount": [10.0, 200.0], "at": times}), repo / "orders.parquet"
    )
    return tmp_path


@dataclass(frozen=True)
class Answer:
    returncode: int
    stdout: str
    stderr: str


def mlcore(*arguments: str, cwd: Path) -> Answer:
    """Run the command from its process boundary on, in this process: importing Feast anew each time takes longer."""
    out, err = StringIO(), StringIO()
    with contextlib.chdir(cwd), redirect_stdout(out), redirect_stderr(err):
        code = run(arguments)
    return Answer(int(code), out.getvalue(), err.getvalue())


def rewrite(shop: Path, before: str, after: str) -> None:
    file = shop / "feature_repo" / "specs.py"
    assert before in file.read_text()
    file.write_text(file.read_text().replace(before, after))


def registry(shop: Path) -> str:
    return hashlib.sha256((shop / "feature_repo" / "data" / "registry.db").read_bytes()).hexdigest()


def everything(shop: Path) -> dict[str, str]:
    files = (path for path in shop.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_plan_apply_change_and_apply_again(shop: Path) -> None:
    before = everything(shop)
    planned = mlcore("plan", cwd=shop)
    assert planned.returncode == 4, planned.stderr
    assert "+ feature view spending" in planned.stdout
    assert everything(shop) == before  # planning writes nothing

    applied = mlcore("apply", "--as", "ana@example.org", cwd=shop)
    assert (applied.returncode, applied.stderr) == (0, "")
    assert "Applied: 5 added, 0 changed, 0 removed." in applied.stdout

    assert mlcore("plan", cwd=shop).returncode == 0
    bytes_before = registry(shop)
    again = mlcore("apply", cwd=shop)
    assert (again.returncode, again.stdout) == (
        0,
        "Nothing to change. What is declared is what was applied.\n",
    )
    assert registry(shop) == bytes_before

    rewrite(shop, 'over="7d")', 'over=["1d", "7d"])')
    changed = mlcore("--json", "plan", cwd=shop / "feature_repo")
    assert changed.returncode == 4
    (change,) = [one for one in json.loads(changed.stdout)["changes"] if one["kind"] == "views"]
    assert (change["action"], change["name"]) == ("change", "spending")
    assert [one["field"] for one in change["fields"]] == ["features"]

    assert mlcore("apply", cwd=shop).returncode == 0
    assert mlcore("plan", cwd=shop).returncode == 0
    assert _applies(shop) == [("ana@example.org", "option"), (_os_user(), "os")]


def test_code_of_on_demand_features_is_part_of_the_plan_and_comments_are_not(shop: Path) -> None:
    assert mlcore("apply", cwd=shop).returncode == 0

    rewrite(shop, "    return {", "    # what a basket is to this customer\n    return {")
    assert mlcore("plan", cwd=shop).returncode == 0

    rewrite(shop, 'x["basket"] /', '2 * x["basket"] /')
    planned = mlcore("plan", cwd=shop)
    assert planned.returncode == 4
    assert "~ on-demand features basket" in planned.stdout

    assert "~ on-demand features basket" in mlcore("apply", cwd=shop).stdout
    assert (
        mlcore("plan", cwd=shop).returncode == 0
    )  # Feast takes both for the same, and would have kept the old
    assert mlcore("apply", cwd=shop).stdout.startswith("Nothing to change.")


def test_a_code_tag_that_is_not_the_codes_is_written_again(shop: Path) -> None:
    assert mlcore("apply", cwd=shop).returncode == 0
    store = open_store(shop / "feature_repo")
    basket = store.get_on_demand_feature_view("basket")
    code, basket.tags["mlcore.code"] = basket.tags["mlcore.code"], "0" * 64
    store.registry.delete_feature_view("basket", "shop")
    store.registry.apply_feature_view(basket, "shop")

    planned = mlcore("plan", cwd=shop)
    applied = mlcore("apply", cwd=shop)

    assert (planned.returncode, applied.returncode) == (4, 0)
    assert "tag mlcore.code" in planned.stdout
    store.refresh_registry()
    assert store.get_on_demand_feature_view("basket").tags["mlcore.code"] == code
    assert mlcore("plan", cwd=shop).returncode == 0


def test_data_that_changed_its_type_changes_what_was_applied(shop: Path) -> None:
    assert mlcore("apply", cwd=shop).returncode == 0
    file = shop / "feature_repo" / "orders.parquet"
    table = pq.read_table(file)
    pq.write_table(table.set_column(1, "amount", table["amount"].cast(pa.int64())), file)

    planned = mlcore("plan", cwd=shop)

    assert planned.returncode == 4
    assert 'type of amount: "double" -> "int64"' in planned.stdout
    assert mlcore("apply", cwd=shop).returncode == 2  # whoever reads the column has to be thought of
    assert mlcore("apply", "--yes", cwd=shop).returncode == 0
    assert mlcore("plan", cwd=shop).returncode == 0


def test_tags_alone_are_a_change(shop: Path) -> None:
    assert mlcore("apply", cwd=shop).returncode == 0
    rewrite(shop, 'ttl="30d"', 'ttl="30d", tags={"team": "sales"}')

    assert mlcore("plan", cwd=shop).returncode == 4
    assert mlcore("apply", cwd=shop).returncode == 0
    assert open_store(shop / "feature_repo").get_feature_view("spending").tags["team"] == "sales"
    assert mlcore("plan", cwd=shop).returncode == 0


def test_the_database_and_the_record_of_changes_can_be_checked(shop: Path) -> None:
    assert "no tables yet" in mlcore("db", "check", cwd=shop).stdout
    assert "From no tables to revision" in mlcore("db", "upgrade", cwd=shop).stdout
    assert "Nothing to change" in mlcore("db", "upgrade", cwd=shop).stdout
    assert mlcore("apply", cwd=shop).returncode == 0
    assert json.loads(mlcore("db", "check", "--json", cwd=shop).stdout)["state"] == "current"
    assert "1 rows, whole" in mlcore("audit", "verify", cwd=shop).stdout

    with sqlite3.connect(shop / ".mlcore" / "metadata.db") as database:
        for (trigger,) in list(database.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")):
            database.execute(f"DROP TRIGGER {trigger}")
        database.execute("UPDATE mlcore_audit SET principal = 'nobody'")
    broken = mlcore("audit", "verify", cwd=shop)
    assert broken.returncode == 1
    assert "row 1 changed" in broken.stdout


def test_features_are_listed_shown_and_traced(shop: Path) -> None:
    listed = mlcore("features", "list", "--json", cwd=shop)
    assert [row["name"] for row in json.loads(listed.stdout)] == FEATURES
    text = mlcore("features", "list", cwd=shop).stdout
    assert max(len(line) for line in text.splitlines()) <= 80

    shown = json.loads(mlcore("features", "show", "spending", "--json", cwd=shop).stdout)
    assert (shown["kind"], shown["ttl"], shown["declared at"]) == ("view", "30d", "feature_repo/specs.py:5")

    service = json.loads(mlcore("features", "show", "offers", "--json", cwd=shop).stdout)
    assert (service["kind"], service["keys"]) == ("service", ["customer"])
    assert [row["name"] for row in service["features"]] == FEATURES
    told = mlcore("features", "show", "offers", cwd=shop)
    assert told.returncode == 0, told.stderr
    assert "keys: customer" in told.stdout
    assert all(name in told.stdout for name in [*FEATURES, *service["request"]])

    traced = json.loads(mlcore("features", "lineage", "amount_sum_7d", "--json", cwd=shop).stdout)
    assert traced["upstream"] == ["customer (entity)", "orders (source)"]
    assert traced["downstream"] == ["basket (on-demand features)", "offers (feature service)"]

    wrong = mlcore("features", "show", "amount_sum", cwd=shop)
    assert wrong.returncode == 2
    assert 'Did you mean "amount_sum_7d"?' in wrong.stderr


def test_plain_feast_reads_what_was_applied(shop: Path) -> None:
    assert mlcore("apply", cwd=shop).returncode == 0
    script = (
        "from feast import FeatureStore\n"
        "store = FeatureStore('.')\n"
        "print([view.name for view in store.list_feature_views()], store.get_feature_service('offers').name)\n"
        "print([f.name for f in store.get_on_demand_feature_view('basket').features])\n"
    )

    answer = subprocess.run(
        [sys.executable, "-c", script], cwd=shop / "feature_repo", capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), str(shop)])}, timeout=120,
    )  # fmt: skip

    assert answer.stdout.splitlines() == ["['spending'] offers", "['basket_share']"]


WRONG = {
    "a syntax error": ("import mlflow_core as ml", "import mlflow_core as", 2, ["specs.py:1"]),
    "an import error": ("import mlflow_core as ml", "import mlflow_core as ml\nimport no_such_thing", 2, ["no_such_thing"]),
    "an unknown column": ('"amount", ml.Agg', '"amuont", ml.Agg', 2, ['"amuont"', '"amount"']),
    "a missing file": ("orders.parquet", "odrers.parquet", 1, ["odrers.parquet"]),
    "an ambiguous window": ('over="7d", where', 'over="7", where', 2, ['"7" has no unit']),
    "a misspelt field": ("owner=", "onwer=", 2, ['"onwer"', '"owner"']),
    "an error in the file": ("offers = ", "1 / 0\noffers = ", 2, ["ZeroDivisionError"]),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_bad_declarations_are_one_clear_message_and_change_nothing(shop: Path, what: str) -> None:
    before, after, code, told = WRONG[what]
    rewrite(shop, before, after)
    files = everything(shop)

    answer = mlcore("apply", cwd=shop)

    assert answer.returncode == code, answer.stderr
    assert answer.stdout == ""
    assert "Traceback" not in answer.stderr
    assert [text for text in told if text not in answer.stderr] == []
    assert everything(shop) == files


def test_a_locked_registry_is_one_clear_message_and_changes_nothing(shop: Path) -> None:
    assert mlcore("apply", cwd=shop).returncode == 0
    rewrite(shop, 'ttl="30d"', 'ttl="60d"')
    files = everything(shop)
    other = sqlite3.connect(shop / "feature_repo" / "data" / "registry.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    answer = mlcore("apply", cwd=shop)

    other.execute("ROLLBACK")
    other.close()
    assert answer.returncode == 1
    assert "is locked by another process" in answer.stderr
    assert len(answer.stderr.splitlines()) == 1
    assert everything(shop) == files


def test_two_names_for_one_project_are_refused(shop: Path) -> None:
    (shop / "mlcore.toml").write_text('[project]\nname = "store"\n')

    answer = mlcore("plan", cwd=shop)

    assert answer.returncode == 2
    assert '"store"' in answer.stderr
    assert '"shop"' in answer.stderr


def test_the_doctor_tells_what_is_there_and_what_is_wrong(shop: Path) -> None:
    before = {one["check"]: one for one in _doctor(shop, 0)}
    assert before["feature repository"]["detail"] == "1 views, 4 features, 1 services, 0 pipelines"
    assert before["registry"]["state"] == "none"

    assert mlcore("apply", cwd=shop).returncode == 0
    after = {one["check"]: one for one in _doctor(shop, 0)}
    assert (after["registry"]["state"], after["metadata database"]["state"]) == ("ok", "ok")

    rewrite(shop, "offers = ", "offers == ")
    wrong = {one["check"]: one for one in _doctor(shop, 1)}
    assert wrong["feature repository"]["state"] == "wrong"
    assert "specs.py" in wrong["feature repository"]["detail"]


def test_the_doctor_works_outside_a_project(tmp_path: Path) -> None:
    findings = {one["check"]: one for one in _doctor(tmp_path, 0)}

    assert findings["feature repository"]["state"] == "none"
    assert findings["feast"]["state"] == "ok"


def _doctor(folder: Path, code: int) -> list[dict[str, Any]]:
    answer = mlcore("doctor", "--json", cwd=folder)
    assert answer.returncode == code, answer.stdout + answer.stderr
    findings: list[dict[str, Any]] = json.loads(answer.stdout)
    return findings


def _applies(shop: Path) -> list[tuple[str, str]]:
    store = MetadataStore(
        f"sqlite:///{shop}/.mlcore/metadata.db", SystemClock(), Principal("reader"), project="shop"
    )
    found = [(one.principal, one.established) for one in reversed(store.list_applies())]
    store.close()
    return found


def _os_user() -> str:
    return os_principal().name
