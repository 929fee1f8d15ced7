"""Transforms: a source's rows made by a function, on every path that reads it, and what such a function may not do."""

from __future__ import annotations

import pickle
import sys
from importlib import import_module
from pathlib import Path
from textwrap import dedent

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from distributed import Client, LocalCluster

import mlflow_core as ml
from mlflow_core.engine.retrieve import retrieve
from mlflow_core.engine.route import InProcess, OnDask
from mlflow_core.errors import MlcoreError, PlanError, SourceError, SpecError
from mlflow_core.plan.check import check_project
from mlflow_core.plan.diff import declared_json, diff
from mlflow_core.plan.fingerprint import fingerprint
from mlflow_core.plan.from_feast import view_of
from mlflow_core.plan.load import load_project
from mlflow_core.plan.retrieval import RetrievalPlan
from mlflow_core.plan.to_feast import to_feast
from mlflow_core.sources import parts, read_schema, read_table, snapshot
from mlflow_core.spec import FeatureView, ParquetSource, SqlSource
from mlflow_core.testing.histories import read_under
from tests.engine.written import written

HOUR = 3_600_000_000

REPO = """
    import pyarrow as pa
    import pyarrow.compute as pc
    import mlflow_core as ml

    FACTOR = 2.0

    def parsed(texts):
        return pc.cast(pc.multiply(pc.cast(texts, pa.int64()), 3_600_000_000), pa.timestamp("us", "UTC"))

    @ml.transform
    def clean(batch):
        batch = batch.filter(pc.is_valid(batch["delay"]))
        times = parsed(batch["hour"])
        doubled = pc.multiply(batch["delay"], FACTOR)
        return pa.table({"k": batch["k"], "at": times, "delay": doubled})

    source = ml.ParquetSource("flights", path="data", event_time="at", transform=clean)
    delays = ml.FeatureView(
        "delays", entity=ml.Entity("k"), source=source, columns={"late": "delay > 5"},
        features=["delay", ml.Agg("delay", ["sum", "approx_quantile(0.5)"], over="3h"), ml.Agg("late", "sum", over="3h"),
                  ml.Agg("k", "top_k(1)", over="3h")],
        availability=ml.Every("1h"),
    )
    service = ml.FeatureService("service", [delays])
"""


@ml.transform
def untouched(batch: pa.Table) -> pa.Table:
    return batch


@ml.transform
def centred(batch: pa.Table) -> pa.Table:
    mean = pc.mean(batch["n"]).as_py() or 0.0
    return batch.set_column(batch.column_names.index("n"), "n", pc.subtract(batch["n"], mean))


@ml.transform
def doubled(batch: pa.Table) -> pa.Table:
    return pa.concat_tables([batch, batch])


@ml.transform
def untyped(batch: pa.Table) -> pa.Table:
    return batch.append_column("m", pa.array([None] * batch.num_rows))


@ml.transform
def wayward(batch: pa.Table) -> pa.Table:
    return batch.append_column(
        "m", pa.array([1.5] * batch.num_rows, pa.float64() if batch.num_rows else pa.string())
    )


@ml.transform
def failing(batch: pa.Table) -> pa.Table:
    return batch.drop_columns(["nope"])


@ml.transform
def listing(batch: pa.Table) -> pa.Table:
    return batch.to_pylist()


def project(folder: Path, text: str = REPO):
    (folder / "feature_repo/data").mkdir(parents=True, exist_ok=True)
    (folder / "feature_repo/flights.py").write_text(dedent(text))
    if not list((folder / "feature_repo/data").iterdir()):
        for number, hours in enumerate((["0", "1", "2"], ["2", "3"], ["4", "x"])):
            table = {
                "k": ["a", "b", "a"][: len(hours)],
                "hour": hours,
                "delay": [1.0, 2.0, 4.0][: len(hours)],
            }
            if "x" in hours:
                table["delay"][-1] = None  # its hour is no number: the transform drops it first
            pq.write_table(pa.table(table), folder / f"feature_repo/data/{number}.parquet")
    return load_project(folder, name="p")


def numbers(folder: Path, transform, rows: int = 10) -> ParquetSource:
    at = pa.array(range(rows), pa.int64()).cast(pa.timestamp("us", "UTC"))
    pq.write_table(pa.table({"at": at, "n": pa.array(range(rows), pa.float64())}), folder / "n.parquet")
    return ParquetSource("numbers", path="n.parquet", event_time="at", transform=transform)


@pytest.fixture(scope="module")
def client():
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None) as cluster,
        Client(cluster) as made,
    ):
        yield made


def test_rows_are_made_before_expressions_on_both_routes_and_in_materialisation(tmp_path, client):
    made = project(tmp_path)
    view, base = made.views["delays"], str(made.repo)
    assert check_project(made, read_schema)["delays"].names == ["k", *view.feature_names]
    rows = pa.table(
        {
            "k": ["a", "b", "a", "z"],
            "event_timestamp": pa.array([2 * HOUR, 3 * HOUR, 4 * HOUR, 9 * HOUR]).cast(
                pa.timestamp("us", "UTC")
            ),
        }
    )
    plan = RetrievalPlan(reads=(read_under(view, "served"),), on_demand=(), columns=view.feature_names)
    in_process = retrieve(plan, rows, base=base, route=InProcess())
    on_dask = retrieve(plan, rows, base=base, route=OnDask(client, tmp_path / "work", buckets=2))

    assert in_process["delay_sum_3h"].to_pylist() == [2.0 + 8.0 + 2.0, 4.0 + 4.0, 2.0 + 8.0 + 2.0, None]
    assert in_process["late_sum_3h"].to_pylist() == [1, 0, 1, None]
    assert in_process["k_top_k_1_3h"].to_pylist() == [["a"], ["b"], ["a"], None]
    assert on_dask.equals(in_process)
    table = written(view, 4 * HOUR, base=base).table
    assert dict(zip(table["k"].to_pylist(), table["delay_sum_3h"].to_pylist(), strict=True)) == {
        "a": 12.0,
        "b": 4.0,
    }


def test_it_travels_as_a_path_and_a_digest_and_comes_back_from_the_registry_text(tmp_path):
    view = project(tmp_path).views["delays"]
    text = view.canonical_json()

    assert b"feature_repo.flights:clean" in text
    assert b"FACTOR" not in text
    for back in (FeatureView.from_json(text), pickle.loads(pickle.dumps(view))):
        assert back == view
        assert back.source.transform.function is None
        base = str(tmp_path / "feature_repo")
        assert read_table(back.source, base).equals(read_table(view.source, base))


def test_feast_registers_it_like_any_source_and_gives_it_back(tmp_path):
    from feast import FeatureView as FeastView

    made = project(tmp_path)
    found = to_feast(made, check_project(made, read_schema))
    view = next(one for one in found if isinstance(one, FeastView))

    assert {field.name: str(field.dtype) for field in view.features} == {
        "delay": "Float64",
        "delay_sum_3h": "Float64",
        "delay_approx_quantile_0_5_3h": "Float64",
        "late_sum_3h": "Int64",
        "k_top_k_1_3h": "Array(String)",
    }
    assert view_of(view, repo_path=made.repo) == made.views["delays"]
    assert "multiply" not in view.tags["mlcore.spec"]


def test_a_change_of_the_code_is_a_change_of_the_declaration_and_of_what_was_kept_of_the_parts(tmp_path):
    first = project(tmp_path)
    source, view, base = first.sources["flights"], first.views["delays"], str(first.repo)
    before = (fingerprint(view), snapshot(source, base), [part.fingerprint for part in parts(source, base)])
    kept = FeatureView.from_json(view.canonical_json())
    applied = {
        kind: {n: declared_json(one) for n, one in first.declared(kind).items()}
        for kind in ("sources", "views")
    }
    third = project(tmp_path, REPO.replace("times =", "# a comment\n        times ="))
    assert fingerprint(third.views["delays"]) == before[0]
    second = project(tmp_path, REPO.replace("FACTOR = 2.0", "FACTOR = 3.0"))
    source = second.sources["flights"]
    after = (
        fingerprint(second.views["delays"]),
        snapshot(source, base),
        [p.fingerprint for p in parts(source, base)],
    )

    assert all(old != new for old, new in zip(before, after, strict=True))
    assert len(set(after[2])) == 3
    assert fingerprint(second.views["delays"], code=False) == fingerprint(view, code=False)
    assert "~ source flights\n    transform:" in diff(applied, second).describe()
    with pytest.raises(PlanError, match=r"clean: is not the code that was applied.*mlcore apply"):
        read_table(kept.source, base)


def test_event_times_that_it_makes_are_never_pruned(tmp_path):
    made = project(tmp_path)
    source, base = made.sources["flights"], str(made.repo)

    assert [part.span for part in parts(source, base)] == [None] * 3
    assert len(parts(source, base, between=(0, 0))) == 3
    assert read_table(source, base, ["delay"], between=(0, 0))["delay"].to_pylist() == [
        2.0,
        4.0,
        8.0,
        2.0,
        4.0,
        2.0,
    ]


@pytest.mark.parametrize(
    ("transform", "rows", "message"),
    [
        (
            centred,
            10,
            r'n\.parquet: transform tests\.sources\.test_transforms:centred gives other values of "n" where',
        ),
        (doubled, 3, r"doubled makes 6 rows of 3|doubled makes 2 rows of 1"),
        (untyped, 0, r'untyped gives column "m" no type when it is given no rows.*pa\.array'),
        (wayward, 3, r'wayward gives column "m" as double.*string'),
        (failing, 0, r"failing fails with KeyError"),
        (listing, 0, r"listing returns list.*pyarrow.Table"),
    ],
)
def test_what_breaks_the_contract_is_refused_by_name(tmp_path, transform, rows, message):
    source = numbers(tmp_path, transform, max(rows, 1))
    with pytest.raises((SourceError, PlanError), match=message) as caught:
        read_table(source, str(tmp_path))
    assert 'ParquetSource "numbers"' in str(caught.value)


def test_one_that_cannot_be_typed_is_told_with_its_source_and_the_views_that_read_it(tmp_path):
    broken = project(tmp_path, REPO.replace('batch["delay"], FACTOR', 'batch["dealy"], FACTOR'))
    with pytest.raises(MlcoreError) as caught:
        check_project(broken, read_schema)
    text = str(caught.value)

    assert "feature_repo/flights.py" in text
    assert "transform feature_repo.flights:clean fails with KeyError" in text
    assert 'read by FeatureView "delays"' in text


def test_functions_that_no_other_process_can_find_are_refused_where_they_are_declared():
    with pytest.raises(SpecError, match="cannot be imported by another process"):
        ml.transform(lambda batch: batch)
    with pytest.raises(SpecError, match="takes 0 arguments"):
        ml.transform(
            import_module(
                __name__
            ).test_functions_that_no_other_process_can_find_are_refused_where_they_are_declared
        )


def test_it_stands_on_a_source_and_nowhere_else(tmp_path):
    source = numbers(tmp_path, untouched)
    with pytest.raises(SpecError, match="features"):
        ml.FeatureView("v", source=source, features=[untouched])
    with pytest.raises(SpecError, match="features"):
        ml.FeatureService("s", [untouched])
    with pytest.raises(SpecError, match="inputs"):
        ml.on_demand(inputs=[untouched])(len)


def test_a_path_that_leads_nowhere_names_what_is_there(tmp_path):
    made = project(tmp_path)
    text = made.sources["flights"].canonical_json().replace(b"flights:clean", b"flights:kleen")
    with pytest.raises(PlanError, match=r'no transform "kleen".*clean'):
        read_table(ParquetSource.from_json(text), str(made.repo))
    text = text.replace(b"feature_repo.flights", b"nowhere_at_all")
    with pytest.raises(PlanError, match=r"cannot import nowhere_at_all.*import path"):
        read_table(ParquetSource.from_json(text), str(made.repo))
    assert "nowhere_at_all" not in sys.modules


def test_tables_of_a_database_are_transformed_too(tmp_path):
    import sqlalchemy as sa

    url = f"sqlite:///{tmp_path}/d.db"
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE n (at TIMESTAMP, n FLOAT)"))
        connection.execute(
            sa.text("INSERT INTO n VALUES ('2020-01-01 00:00:00', 1.0), ('2020-01-02 00:00:00', NULL)")
        )
    engine.dispose()
    plain = SqlSource("numbers", url=url, table="n", event_time="at")
    made = plain.model_copy(update={"transform": untouched})

    assert read_schema(made, str(tmp_path)) == read_schema(plain, str(tmp_path))
    assert read_table(made, str(tmp_path)).equals(read_table(plain, str(tmp_path)))
    assert snapshot(made, str(tmp_path)) != snapshot(plain, str(tmp_path))
