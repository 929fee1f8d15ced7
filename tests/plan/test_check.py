"""Checks across objects and against the data: every unknown name and every type that does not fit."""

from __future__ import annotations

import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlflow_core.errors import MlcoreError, PlanError, SourceError
from mlflow_core.plan.check import check_project
from mlflow_core.plan.schema import on_demand_schema, service_schema
from mlflow_core.sources import read_schema
from tests.plan.repos import ENTITIES, PIPELINE, SOURCES, VIEWS, good, load

TIME = pa.timestamp("us", tz="UTC")


@pytest.fixture(autouse=True)
def _own_imports() -> object:
    path = list(sys.path)
    yield
    for name in [one for one in sys.modules if one.partition(".")[0] in ("feature_repo", "pipelines")]:
        del sys.modules[name]
    sys.path[:] = path


def problem(root: Path, **changed: str) -> str:
    files = {
        "pipelines/late.py" if name == "pipeline" else f"feature_repo/{name}.py": text
        for name, text in changed.items()
    }
    project = load(good(root, files))
    with pytest.raises(MlcoreError) as caught:
        check_project(project, read_schema)
    return str(caught.value)


def test_a_good_project_gives_the_schema_of_each_view(tmp_path: Path) -> None:
    project = load(good(tmp_path))
    schemas = check_project(project, read_schema)
    assert schemas["delays"] == pa.schema(
        [
            ("carrier", pa.string()),
            ("delay", pa.float64()),
            ("late_mean_24h", pa.float64()),
            ("delays_count_3h", pa.int64()),
        ]
    )
    assert on_demand_schema(project.on_demand["speed"], schemas) == pa.schema([("per_mile", pa.float64())])
    assert service_schema(project.services["model"], schemas).names == [
        "delay", "late_mean_24h", "delays_count_3h", "per_mile",
    ]  # fmt: skip


def test_a_computed_key_is_refused_because_rows_are_parted_by_key_first(tmp_path: Path) -> None:
    views = VIEWS.replace('{"late": "delay > 15"}', '{"late": "delay > 15", "carrier": "upper(carrier)"}')
    assert 'key column "carrier" is computed by an expression' in problem(tmp_path, views=views)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('event_time="departure"', 'event_time="departur"', 'field "event_time": there is no column "departur". Did you mean "departure"?'),
        ('known_at="known"', 'known_at="know"', 'field "known_at": there is no column "know". Did you mean "known"?'),
        ('known_at="known"', 'known_at="carrier"', 'field "known_at": column "carrier" is string. Expected a time.'),
        ('known_at="known"', 'known_at="known", created="delay"', 'field "created": column "delay" is double'),
        ('event_id="id"', 'event_id="delay"', 'field "event_id": column "delay" is double'),
        ('event_id="id"', 'event_id="id", deleted="origin"', 'field "deleted": column "origin" is string. Expected a boolean.'),
        ('event_id="id"', 'event_id="idd"', 'field "event_id": there is no column "idd"'),
        ('event_id="id"', 'event_id="id", rename={"dst": "x"}', 'there is no column "dst". Did you mean "dest"?'),
        ("data/flights.parquet", "data/flight.parquet", 'there is no file or folder "data/flight.parquet"'),
    ],
)  # fmt: skip
def test_what_a_source_says_of_its_columns_is_checked(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    text = problem(tmp_path, sources=SOURCES.replace(old, new))
    assert message in text
    assert 'sources.py:3: ParquetSource "flights"' in text


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('["delay", ', '["delai", ', 'feature "delai" is neither in source "flights" nor in its columns. Did you mean "delay"?'),
        ('Agg("late"', 'Agg("lat"', 'aggregate column "lat" is neither in source "flights" nor in its columns. Did you mean "late"?'),
        ('Agg("late", "mean"', 'Agg("origin", "mean"', "mean does not apply to a column of type string"),
        ('Agg("late", "mean"', 'Agg("dest", "quantile(0.5)"', "quantile(0.5) does not apply to a column of type string"),
        ('"delay > 15"', '"delai > 15"', 'column "late": there is no column "delai", at character 1 of `delai > 15`'),
        ('"delay > 15"', '"sum(delay) > 15"', '"sum" looks at many rows, at character 1'),
        ('"delay > 15"', '"delay > > 15"', "syntax error"),
        ('where="NOT late"', 'where="delay"', 'feature "delays_count_3h": where: the condition gives double'),
        ('where="NOT late"', 'where="latte"', 'where: there is no column "latte"'),
        ('["delay", ', '["gate", ', 'column "gate" has type struct<x: int64>, which no feature can have'),
        ("distance", "delay", 'feature "delay" has the name of a field of the request'),
        ('"per_mile":', '"carrier":', 'feature "carrier" has the name of a key column of view delays'),
        ('"per_mile":', '"delay":', '"delay" is a feature of both "delays" and "speed"'),
        ('x["delay"] /', 'x["late_mean_24h"] /', "late_mean_24h"),
    ],
)  # fmt: skip
def test_what_views_and_services_are_made_of_is_checked(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    views = VIEWS.replace(old, new)
    if old == '["delay", ':
        views = views.replace('[["delay"]]', "")  # the on-demand features would select what is gone
    text = problem(tmp_path, views=views, pipeline="")
    assert message in text
    assert "views.py:" in text


def test_an_entity_key_that_the_source_lacks_or_that_is_no_key_names_the_view(tmp_path: Path) -> None:
    text = problem(tmp_path, entities=ENTITIES.replace('"carrier")', '"carrier", keys=["carrierx"])'))
    assert 'key column "carrierx" of entity "carrier" is neither in source "flights"' in text
    assert 'Did you mean "carrier"?' in text
    text = problem(
        tmp_path / "b", entities=ENTITIES.replace('"carrier")', '"carrier", keys=["distance"])'), pipeline=""
    )
    assert 'key column "distance" is double. Expected integers, strings, bytes or UUIDs.' in text


def test_one_key_column_with_two_types_in_one_service_is_refused(tmp_path: Path) -> None:
    renamed = (
        'path="data/flights.parquet", event_time="departure", rename={"id": "carrier", "carrier": "airline"}'
    )
    extra = f'\nother_flights = ml.ParquetSource("other_flights", {renamed})\n'
    extra += 'other = ml.FeatureView("other", entity=carrier, source=other_flights, features="distance")\n'
    views = VIEWS.replace("model = ", f"\n{extra}model = ").replace("[delays, speed]", "[delays, other]")
    assert 'key column "carrier" is int64 in view "other" and string in "delays"' in problem(
        tmp_path, views=views, pipeline=""
    )


def test_the_served_clock_needs_availability_also_of_views_that_feed_on_demand_features(
    tmp_path: Path,
) -> None:
    views = VIEWS.replace('    availability=ml.Every("1h", delay="10m"),\n', "").replace(
        "[delays, speed]", '[speed], clock="served"'
    )
    assert 'FeatureView "delays": has no availability' in problem(tmp_path, views=views, pipeline="")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("departure - INTERVAL '2 hours'", "depature", 'there is no column "depature"'),
        ("departure - INTERVAL '2 hours'", "delay", "gives double, not a time"),
        ("delay IS NOT NULL", "delay", "gives double, not true or false"),
        ('Label("delay > 15"', 'Label("delai > 15"', 'there is no column "delai"'),
        ('known_at="known")', 'known_at="knwn")', '"knwn", which is no column. Did you mean "known"?'),
        ('slices=["origin"]', 'slices=["originn"]', 'Did you mean "origin"?'),
        ('columns=["dest"]', 'columns=["dst"]', 'Did you mean "dest"?'),
        (
            '["distance", "delay"]',
            '["distanc"]',
            '"distanc" is no feature of service "model". Did you mean "distance"?',
        ),
    ],
)
def test_what_a_pipeline_reads_is_checked(tmp_path: Path, old: str, new: str, message: str) -> None:
    text = problem(tmp_path, pipeline=PIPELINE.replace(old, new))
    assert message in text
    assert "late.py:" in text


def test_a_spine_without_the_request_fields_or_with_other_types_is_refused(tmp_path: Path) -> None:
    text = problem(tmp_path, views=VIEWS.replace('"distance": float', '"dist": float').replace('["distance"]', '["dist"]'),
                   pipeline=PIPELINE.replace('["distance", "delay"]', '["dist"]'))  # fmt: skip
    assert 'reads "dist" from the request, but ParquetSource "flights" has no such column' in text
    text = problem(
        tmp_path / "b",
        views=VIEWS.replace('"distance": float', '"distance": str').replace('/ x["distance"]', ""),
    )
    assert 'column "distance" of the spine is double. Expected string.' in text


def test_all_problems_come_in_one_error(tmp_path: Path) -> None:
    views = VIEWS.replace('["delay", ', '["delai", ').replace('where="NOT late"', 'where="latte"')
    text = problem(
        tmp_path,
        sources=SOURCES.replace('known_at="known"', 'known_at="know"'),
        views=views.replace('[["delay"]]', ""),
    )
    assert text.startswith("3 problems:\n  ")
    assert len(text.splitlines()) == 4


def test_schema_drift_and_a_damaged_file_are_errors_of_the_source(tmp_path: Path) -> None:
    project = load(
        good(tmp_path, {"feature_repo/sources.py": SOURCES.replace("flights.parquet", "*.parquet")})
    )
    data = tmp_path / "feature_repo/data"
    pq.write_table(pa.table({"id": [1]}), data / "other.parquet")
    with pytest.raises(SourceError, match="its files differ"):
        check_project(project, read_schema)
    (data / "other.parquet").write_bytes(b"PAR1")
    with pytest.raises(SourceError, match=r'file "other.parquet" cannot be read'):
        check_project(project, read_schema)


def test_a_single_problem_of_a_view_is_a_plan_error_with_its_place(tmp_path: Path) -> None:
    project = load(
        good(
            tmp_path,
            {"feature_repo/views.py": VIEWS.replace('["delay", ', '["delai", ').replace('[["delay"]]', "")},
        )
    )
    with pytest.raises(PlanError) as caught:
        check_project(project, read_schema)
    assert caught.value.place is not None
    assert caught.value.place.endswith("views.py:6")
    assert caught.value.object == 'FeatureView "delays"'


def test_a_baseline_that_reads_the_request_needs_request_fields(tmp_path: Path) -> None:
    views = VIEWS.replace("[delays, speed]", "[delays]")
    pipeline = PIPELINE.replace('LogisticRegression(columns=["distance", "delay"])', "LogisticRegression()")
    assert "reads the features of the request, and there are none" in problem(
        tmp_path, views=views, pipeline=pipeline
    )


def test_one_request_field_with_two_types_is_refused(tmp_path: Path) -> None:
    second = '\n@ml.on_demand(request={"distance": int})\ndef far(x):\n    return {"far": x["distance"] > 500}\n\nmodel = '
    views = VIEWS.replace("model = ", second).replace("[delays, speed]", "[delays, speed, far]")
    text = problem(tmp_path, views=views, pipeline="")
    assert 'request field "distance" is int64 in "far" and float64 in another' in text
