"""How specs show themselves: as calls, as tables of features, in a notebook; and that their examples run."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import mlflow_core as ml
import mlflow_core.spec
from mlflow_core.spec.table import view_html, view_text

SOURCE = ml.ParquetSource("flights", path="x.parquet", event_time="at")
VIEW = ml.FeatureView(
    "delays",
    entity=ml.Entity("route", keys=["origin", "dest"]),
    source=SOURCE,
    columns={"late": "delay > 15"},
    features=[
        "late",
        ml.Agg("delay", "mean", over="1h", offset="7d", where="delay < 9 & x"),
        ml.Agg("*", "count", over="3h", accuracy="hop(5m)"),
    ],
    ttl="3h",
    availability=ml.Every("1h", delay="10m"),
)


def test_a_spec_shows_itself_as_its_call_with_parts_by_name() -> None:
    service = ml.FeatureService("model", [VIEW], clock="served")
    assert repr(service) == "FeatureService('model', [FeatureView('delays')], clock='served')"
    assert repr(ml.Agg("x", "mean", over="1h")) == "Agg('x', ['mean'], over=['1h'])"
    assert str(ml.Entity("a", tags={"x": "y"})) == "Entity('a', tags={'x': 'y'}, keys=['a'])"


def test_a_view_prints_as_a_table_of_its_features() -> None:
    assert str(VIEW).splitlines() == [
        'FeatureView "delays" of route (origin, dest) from flights, every 1h after 10m',
        "  feature              is                                 window",
        "  late                 latest value = delay > 15          up to 3h old",
        "  delay_mean_1h_lag7d  mean of delay where delay < 9 & x  1h, 7d before",
        "  delays_count_3h      count of events                    3h, hop 5m",
    ]
    assert "double" in view_text(VIEW, {"late": "double"}).splitlines()[2]


def test_a_view_in_a_notebook_is_an_escaped_table_with_types_where_they_are_known() -> None:
    html = VIEW._repr_html_()
    assert html.count("<tr>") == 4
    assert "<th>type</th>" not in html
    assert "delay &lt; 9 &amp; x" in html
    assert "<td>bool</td>" in view_html(VIEW, {"late": "bool"})


def test_signatures_show_what_goes_by_position() -> None:
    parameters = inspect.signature(ml.Agg).parameters
    assert list(parameters)[:3] == ["column", "functions", "over"]
    assert parameters["functions"].kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
    assert parameters["over"].kind is inspect.Parameter.KEYWORD_ONLY
    assert "register" in inspect.signature(ml.TrainingPipeline).parameters


MODULES = [one.name for one in pkgutil.iter_modules(mlflow_core.spec.__path__)]


@pytest.mark.parametrize("name", [f"mlflow_core.spec.{one}" for one in MODULES] + [
    "mlflow_core.algebra.expression", "mlflow_core.algebra.functions", "mlflow_core.errors",
    "mlflow_core.plan.fingerprint", "mlflow_core.plan.problems",
])  # fmt: skip
def test_the_examples_in_docstrings_run(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0


USER = """
import mlflow_core as ml
from mlflow_core.spec import Arrays

carrier = ml.Entity("carrier")
route = ml.Entity("route", keys=["origin", "dest"])
flights = ml.ParquetSource("flights", path="x.parquet", event_time="at", known_at="known")
view = ml.FeatureView(
    "v", entity=carrier, source=flights, columns={"x": "a > 1"}, ttl="3h", availability=ml.Every("1h", delay="10m"),
    features=["a", ml.Agg("b", ["mean"], over=["3h", "1d"]), ml.Agg("*", "count", over="3h", where="x")],
    checks=[ml.NullRate("a", below=0.2)],
)

@ml.on_demand(inputs=[view[["a"]]], request={"distance": float, "t": ml.Timestamp})
def scaled(x: Arrays) -> Arrays:
    return {"y": x["a"]}

service = ml.FeatureService("s", [view, scaled])
pipeline = ml.TrainingPipeline(
    "p",
    data=ml.Dataset(
        features=service, spine=ml.Spine(flights, at="at"), label=ml.Label("a > 1"),
        split=ml.TimeSplit(train_until="2013-10-01", validate_until="2013-11-01", embargo="1d"),
    ),
    trainer=ml.XGBoost(rounds=3), evaluate=["auc"], slices=["origin"],
    baselines=[ml.Rate(), ml.LogisticRegression(columns=["a"])],
    gate=ml.Gate(metric="auc", at_least={"auc": 0.6}), register=ml.Register("m", alias="champion"),
)
"""


@pytest.mark.long
def test_a_users_files_type_check_under_mypy_strict_and_mistakes_do_not(
    tmp_path: Path, repository: Path
) -> None:
    (tmp_path / "good.py").write_text(USER)
    (tmp_path / "bad.py").write_text("import mlflow_core as ml\nml.Entity(3)\nml.Agg('x', 'mean')\n")
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file", "", f"--cache-dir={tmp_path}/cache"]
    done = subprocess.run(
        [*command, "good.py", "bad.py"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert "good.py" not in done.stdout
    assert 'bad.py:2: error: Argument 1 to "Entity" has incompatible type' in done.stdout
    assert 'bad.py:3: error: Missing named argument "over" for "Agg"' in done.stdout
