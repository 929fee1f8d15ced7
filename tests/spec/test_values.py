"""Specs are values: frozen, equal if they mean the same, hashable, picklable, and the same after JSON."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

import mlflow_core as ml
from mlflow_core.config.times import UNITS
from mlflow_core.spec import Duration, OnDemand, Spec

names = st.from_regex(r"[a-z][a-z0-9]{0,6}", fullmatch=True)
durations = st.builds(
    lambda n, unit: Duration(f"{n}{unit}"), st.integers(1, 500), st.sampled_from(list(UNITS))
)
texts = st.text(max_size=8)
entities = st.builds(
    lambda name, keys, owner: ml.Entity(name, keys=keys, owner=owner),
    names,
    st.lists(names, min_size=1, max_size=3, unique=True),
    texts,
)
sources = st.one_of(
    st.builds(
        lambda n, k: ml.ParquetSource(n, path="p", event_time="t", known_at=k), names, st.none() | names
    ),
    st.builds(
        lambda n, t: ml.SqlSource(n, url="sqlite://", table=t, event_time="t", tags={t: "x"}), names, names
    ),
)
aggs = st.builds(
    lambda column, function, over, offset, where, boundary: ml.Agg(
        column, function, over=over, offset=offset, where=where, boundary=boundary
    ),
    names,
    st.sampled_from(["mean", "sum", "quantile(0.25)", "last(3)", "count_distinct"]),
    durations,
    durations,
    st.none() | texts,
    st.sampled_from(["(]", "[)"]),
)
availability = st.builds(
    lambda every, delay, day: ml.Every(every, delay=delay, anchor=datetime(2013, 1, day, tzinfo=UTC)),
    durations,
    durations,
    st.integers(1, 28),
)
checks = st.just(ml.NullRate("zz", below=0.5)) | st.just(ml.InRange("zz", at_most=3.0, severity="warn"))
views = st.builds(
    lambda name, source, agg, ttl, every, check: ml.FeatureView(
        name,
        source=source,
        features=["zz", agg],
        ttl=ttl,
        availability=every,
        checks=[check],
        columns={"b": "a", "a": "1"},
    ),
    names,
    sources,
    aggs,
    st.none() | durations,
    st.none() | availability,
    checks,
)
specs = st.one_of(entities, sources, aggs, availability, checks, views)


@given(specs)
def test_a_spec_is_the_same_after_json_and_pickle(spec: Spec) -> None:
    again = type(spec).from_json(spec.canonical_json())
    assert again == spec
    assert hash(again) == hash(spec)
    assert again.digest() == spec.digest()
    thawed = pickle.loads(pickle.dumps(spec))
    assert thawed == spec
    assert thawed.place == spec.place


@given(specs, specs)
def test_equal_specs_have_equal_hashes_and_texts(one: Spec, other: Spec) -> None:
    assert (one == other) == (type(one) is type(other) and one.canonical_json() == other.canonical_json())
    if one == other:
        assert hash(one) == hash(other)


@given(entities | sources | aggs)
def test_a_repr_is_the_call_that_makes_it(spec: Spec) -> None:
    made = eval(
        repr(spec), {name: getattr(ml, name) for name in ("Entity", "ParquetSource", "SqlSource", "Agg")}
    )
    assert made == spec


@given(st.integers(-(10**15), 10**15))
def test_a_timedelta_and_its_text_are_one_duration(microseconds: int) -> None:
    made = Duration(timedelta(microseconds=microseconds))
    assert int(made) == microseconds == Duration(str(made))


@given(availability, st.integers(-(10**17), 10**17))
def test_a_boundary_is_the_last_one_whose_values_can_be_used(every: ml.Every, time: int) -> None:
    boundary = every.boundary(time)
    assert (boundary - every.anchor_us) % every.every == 0
    assert boundary + every.delay <= time < boundary + every.every + every.delay


def test_a_spec_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        ml.Entity("a").name = "b"


def test_where_it_was_declared_takes_no_part_in_equality() -> None:
    one = ml.Entity("a")
    other = ml.Entity("a")
    assert one == other
    first, second = (int(spec.place.rpartition(":")[2]) for spec in (one, other))
    assert second == first + 1
    assert one.place.endswith(f"test_values.py:{first}")


def test_equally_long_windows_that_name_columns_differently_differ() -> None:
    day, hours = ml.Agg("x", "mean", over="1d"), ml.Agg("x", "mean", over="24h")
    assert day.over == hours.over
    assert day != hours
    assert len({day, hours}) == 2


def test_a_new_field_at_its_default_would_not_change_the_text() -> None:
    assert ml.Entity("a", description="", tags={}).canonical_json() == b'{"keys":["a"],"name":"a"}'


def identity(x: object) -> object:
    return x


def test_services_name_their_views_and_on_demand_features_their_function() -> None:
    source = ml.SqlSource("s", url="sqlite://", table="t", event_time="t")
    view = ml.FeatureView("v", source=source, features=["a", "b"])
    on_demand = OnDemand("o", function=identity, inputs=[view[["a"]], view], request={"r": "float32"})
    service = ml.FeatureService("svc", [view[["a"]], on_demand])
    assert (
        service.canonical_json()
        == b'{"features":[{"features":["a"],"view":"v"},{"on_demand":"o"}],"name":"svc"}'
    )
    assert b'"inputs":[{"features":["a"],"view":"v"},{"view":"v"}]' in on_demand.canonical_json()
    assert on_demand.import_path == f"{__name__}:identity"
    assert [one.name for one in on_demand.views] == ["v", "v"]
    assert on_demand({"r": 1}) == {"r": 1}


def test_the_decorator_takes_name_and_description_from_the_function() -> None:
    made = ml.on_demand(request={"a": float})(identity)
    assert (made.name, made.description) == ("identity", "")


def test_defaults_of_a_pipeline_and_its_label() -> None:
    source = ml.ParquetSource("s", path="p", event_time="t")
    service = ml.FeatureService("svc", [ml.FeatureView("v", source=source, features=["a"])])
    label = ml.Label(aggregate=ml.Agg("*", "count", over="6h"), entity=ml.Entity("a"))
    split = ml.TimeSplit(train_until="2013-01-01", validate_until=datetime(2013, 2, 1))
    data = ml.Dataset(features=service, spine=ml.Spine(source), label=label, split=split)
    made = ml.TrainingPipeline("p", data=data, trainer=ml.XGBoost())
    assert (made.model, made.alias) == ("p", "candidate")
    assert label.horizon == Duration("6h")
    assert ml.Label("x").horizon is None
    assert split.validate_until == datetime(2013, 2, 1, tzinfo=UTC)
    named = ml.TrainingPipeline(
        "p", data=data, trainer=ml.XGBoost(), register=ml.Register("m", alias="champion")
    )
    assert (named.model, named.alias) == ("m", "champion")


def test_a_view_multiplies_its_windows_out_once_and_a_copy_its_own() -> None:
    source = ml.ParquetSource("orders", path="orders.parquet", event_time="at")
    features = ["amount", ml.Agg("*", "count", over=["1h", "3h"])]
    asked = ml.FeatureView("orders", source=source, features=features)

    assert asked.windows is asked.windows
    assert asked.feature_names == ("amount", "orders_count_1h", "orders_count_3h")
    renamed = asked.model_copy(update={"name": "sales"})
    fewer = asked.model_copy(update={"features": ("amount",)})
    assert renamed.feature_names == ("amount", "sales_count_1h", "sales_count_3h")
    assert [one.name for one in renamed.windows] == ["sales_count_1h", "sales_count_3h"]
    assert (fewer.feature_names, fewer.windows) == (("amount",), ())
    assert asked.feature_names == ("amount", "orders_count_1h", "orders_count_3h")


def test_a_view_that_was_asked_for_its_windows_is_still_the_same_value() -> None:
    source = ml.ParquetSource("orders", path="orders.parquet", event_time="at")
    asked, other = (
        ml.FeatureView("orders", source=source, features=ml.Agg("amount", "sum", over="1h")) for _ in "ab"
    )
    fresh = ml.FeatureView.from_json(asked.canonical_json())
    before = pickle.dumps(fresh)

    assert fresh.windows == asked.windows
    assert fresh == asked == other
    assert hash(asked) == hash(other)
    assert asked.canonical_json() == other.canonical_json()
    assert pickle.dumps(fresh) == before
    assert pickle.loads(before).windows == asked.windows
