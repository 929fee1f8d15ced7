"""The one reader: values, statuses and times of entity rows, to the letter of docs/concepts.md."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from uuid import UUID

import pyarrow as pa
import pytest

from mlflow_core.config.clock import FixedClock
from mlflow_core.errors import PlanError, ServeError, StoreError, UnknownNameError
from mlflow_core.online.answer import Status
from mlflow_core.online.backend import Ask
from mlflow_core.online.head import version_of
from mlflow_core.online.keys import encode_key
from mlflow_core.online.reader import Reader
from mlflow_core.online.sqlite import SqliteBackend
from mlflow_core.online.write import EVENT_TIME
from mlflow_core.plan.retrieval import OnDemandRead, RetrievalPlan, ViewRead, plan_retrieval
from mlflow_core.spec import Agg, Entity, FeatureService, FeatureView, ParquetSource
from tests.online.on_demand_features import DELAYS, SOURCE, request_features
from tests.online.writing import Written, write_table

TIME = pa.timestamp("us", tz="UTC")
HOUR = 3_600_000_000
NOON = 15_000 * 24 * HOUR + 12 * HOUR
SCHEMA = pa.schema(
    [
        ("carrier", pa.string()),
        ("delay", pa.float64()),
        ("note", pa.string()),
        ("delay_mean_3h", pa.float64()),
        ("delays_count_3h", pa.int64()),
    ]
)
SCHEMAS = {"delays": SCHEMA}
SERVICE = FeatureService("service", [DELAYS])


def answer(plan, schemas, entity_rows, *, backend, now_us):
    return Reader(plan, schemas).answer(entity_rows, backend=backend, now_us=now_us)


def write_materialised(backend, view, table, boundary):
    return write_table(backend, view, table, boundary).changed


@pytest.fixture
def backend(tmp_path):
    store = SqliteBackend(tmp_path / "online.db", "p", FixedClock(NOON))
    yield store
    store.close()


def materialised(**rows: tuple) -> pa.Table:
    """carrier = (delay, note, mean, count, event time)"""
    columns = list(zip(*rows.values(), strict=True))
    return pa.table(
        {
            "carrier": list(rows),
            "delay": pa.array(columns[0], pa.float64()),
            "note": pa.array(columns[1], pa.string()),
            "delay_mean_3h": pa.array(columns[2], pa.float64()),
            "delays_count_3h": pa.array(columns[3], pa.int64()),
            EVENT_TIME: pa.array(columns[4], pa.int64()).cast(TIME),
        }
    )


@pytest.fixture
def flown(backend):
    table = materialised(
        UA=(5.0, None, 2.5, 2, NOON - HOUR // 2),
        DL=(7.0, "fog", 7.0, 1, NOON - 2 * HOUR),
        AA=(None, "late", None, 0, NOON - 9 * HOUR),
    )
    assert write_materialised(backend, DELAYS, table, NOON) == 3
    return backend


def ask(backend, carriers, now=NOON, **options):
    return answer(
        plan_retrieval(SERVICE, **options), SCHEMAS, {"carrier": carriers}, backend=backend, now_us=now
    )


def test_values_statuses_and_times_stand_in_request_order_with_duplicates(flown):
    got = ask(flown, ["DL", "UA", "??", "UA"])
    late = Status.OUTSIDE_MAX_AGE
    assert got.columns == {
        "delay": [None, 5.0, None, 5.0],
        "note": [None, None, None, None],
        "delay_mean_3h": [7.0, 2.5, None, 2.5],
        "delays_count_3h": [1, 2, 0, 2],
    }
    assert got.statuses == {
        "delay": [late, "PRESENT", "NOT_FOUND", "PRESENT"],
        "note": [late, "NULL_VALUE", "NOT_FOUND", "NULL_VALUE"],
        "delay_mean_3h": ["PRESENT", "PRESENT", "NOT_FOUND", "PRESENT"],
        "delays_count_3h": ["PRESENT", "PRESENT", "NOT_FOUND", "PRESENT"],
    }
    half = NOON - HOUR // 2
    assert got.event_times["delay"] == [NOON - 2 * HOUR, half, None, half]
    assert got.event_times["delays_count_3h"] == [NOON, NOON, None, NOON]
    assert got.rows()[1] == {"delay": 5.0, "note": None, "delay_mean_3h": 2.5, "delays_count_3h": 2}


def test_a_stored_null_of_a_window_is_null_and_its_count_is_present(flown):
    got = ask(flown, ["AA"])
    assert (got.columns["delay_mean_3h"], list(got.statuses["delay_mean_3h"])) == ([None], ["NULL_VALUE"])
    assert (got.columns["delays_count_3h"], list(got.statuses["delays_count_3h"])) == ([0], ["PRESENT"])


@pytest.mark.parametrize(("past_the_edge", "status"), [(0, "PRESENT"), (1, "OUTSIDE_MAX_AGE")])
def test_the_edge_of_the_ttl_belongs_to_it(flown, past_the_edge, status):
    got = ask(flown, ["UA"], now=NOON + HOUR // 2 + past_the_edge)
    assert list(got.statuses["delay"]) == [status]
    assert list(got.statuses["delay_mean_3h"]) == ["PRESENT"]


def test_a_null_key_matches_nothing(flown):
    got = ask(flown, [None, "UA"])
    assert got.statuses["delay"] == ["NOT_FOUND", "PRESENT"]
    assert got.columns["delays_count_3h"] == [0, 2]


def test_no_entity_rows_give_empty_columns(flown):
    assert ask(flown, []).columns == {name: [] for name in DELAYS.feature_names}


def test_an_erased_key_is_an_unknown_key(flown):
    flown.erase([Ask(("carrier",), ("delays",), [encode_key(("UA",))])])
    got = ask(flown, ["UA"])
    assert got.columns["delays_count_3h"] == [0]
    assert got.statuses["delay"] == ["NOT_FOUND"]
    assert write_materialised(flown, DELAYS, materialised(UA=(1.0, None, 1.0, 1, NOON)), NOON) == 0


def test_full_names_carry_the_view(flown):
    assert list(ask(flown, ["UA"], full_feature_names=True).columns) == [
        f"delays__{name}" for name in DELAYS.feature_names
    ]


def test_some_features_are_answered_and_others_only_feed_on_demand_ones(flown):
    service = FeatureService("s", [DELAYS[["note"]], request_features])
    rows = {"carrier": ["UA", "??"], "distance": [10, None], "departure": ["2013-01-01T05:30Z", None]}
    got = answer(plan_retrieval(service), SCHEMAS, rows, backend=flown, now_us=NOON)
    assert got.columns == {
        "note": [None, None],
        "per_mile": [0.25, None],
        "hour": [5.0, None],
        "flown": [2, 0],
    }
    assert got.statuses["per_mile"] == ["PRESENT", "NULL_VALUE"]


def test_a_time_of_the_request_may_be_a_datetime_text_or_microseconds(flown):
    service = FeatureService("s", [request_features])
    moment = datetime(2013, 1, 1, 5, tzinfo=UTC)
    times = [moment, moment.replace(tzinfo=None), "2013-01-01T05:00", int(moment.timestamp()) * 1_000_000]
    rows = {"carrier": ["UA"] * 4, "distance": [1.0] * 4, "departure": times}
    got = answer(plan_retrieval(service), SCHEMAS, rows, backend=flown, now_us=NOON)
    assert got.columns["hour"] == [5.0] * 4


def test_what_is_missing_from_the_entity_rows_is_named(flown):
    plan = plan_retrieval(FeatureService("s", [DELAYS, request_features]))
    given = {"carier": ["UA"], "distance": [1.0], "departure": [NOON]}
    with pytest.raises(ServeError, match=r'no column "carrier".*Did you mean "carier"'):
        answer(plan, SCHEMAS, given, backend=flown, now_us=NOON)
    with pytest.raises(ServeError, match='no column "distance", "departure"'):
        answer(plan, SCHEMAS, {"carrier": ["UA"]}, backend=flown, now_us=NOON)
    with pytest.raises(ServeError, match="different lengths: carier 1, distance 2"):
        answer(
            plan, SCHEMAS, {**given, "carrier": ["UA"], "distance": [1.0, 2.0]}, backend=flown, now_us=NOON
        )


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            {"carrier": ["UA", 7]},
            r'delays.*entity row 1: key column "carrier" was given 7 \(int\).*Expected string',
        ),
        (
            {"distance": [1.0, "far"]},
            r"entity row 1: request field \"distance\" was given 'far' \(str\).*float64",
        ),
        ({"distance": [True, 1.0]}, r'entity row 0: request field "distance" was given True \(bool\)'),
        ({"departure": ["yesterday", None]}, r'request field "departure": "yesterday" is not a time'),
    ],
)
def test_a_value_of_the_wrong_type_is_named_with_its_row(flown, rows, message):
    given = {"carrier": ["UA", "DL"], "distance": [1.0, 2.0], "departure": [NOON, NOON]} | rows
    with pytest.raises(ServeError, match=message):
        answer(
            plan_retrieval(FeatureService("s", [request_features])),
            SCHEMAS,
            given,
            backend=flown,
            now_us=NOON,
        )


def test_rows_of_another_definition_are_refused_by_the_views_name_until_they_are_replaced(flown):
    changed = DELAYS.model_copy(
        update={
            "features": (
                "delay",
                "note",
                Agg("delay", "mean", over="3h"),
                Agg("*", "count", over="3h", where="delay > 0"),
            )
        }
    )
    plan = plan_retrieval(FeatureService("s", [changed]))
    with pytest.raises(
        StoreError, match=r'FeatureView "delays".*another definition.*materialise the view again'
    ):
        answer(plan, SCHEMAS, {"carrier": ["UA"]}, backend=flown, now_us=NOON)
    assert write_materialised(flown, changed, materialised(UA=(5.0, None, 2.5, 1, NOON)), NOON) == 1
    assert answer(plan, SCHEMAS, {"carrier": ["UA"]}, backend=flown, now_us=NOON).columns[
        "delays_count_3h"
    ] == [1]


def test_owner_ttl_and_place_of_the_data_do_not_change_the_definition(flown):
    moved = SOURCE.model_copy(update={"path": "elsewhere.parquet"})
    same = DELAYS.model_copy(update={"owner": "me", "ttl": None, "source": moved, "tags": {"a": "b"}})
    got = answer(
        plan_retrieval(FeatureService("s", [same])), SCHEMAS, {"carrier": ["DL"]}, backend=flown, now_us=NOON
    )
    assert got.columns["delay"] == [7.0]


def test_a_view_is_read_under_several_names_and_keys_of_the_entity_rows(flown):
    reads = tuple(
        ViewRead(DELAYS, ("delays_count_3h",), "served", (("carrier", column),), prefix=column)
        for column in ("first", "second")
    )
    plan = RetrievalPlan(reads, (), tuple(read.output("delays_count_3h") for read in reads))
    rows = {"first": ["UA", "DL"], "second": ["DL", "??"]}
    got = answer(plan, SCHEMAS, rows, backend=flown, now_us=NOON)
    assert got.columns == {"first__delays_count_3h": [2, 1], "second__delays_count_3h": [1, 0]}


def test_all_views_are_read_at_once(flown):
    asked = []

    class Counted:
        def read(self, asks):
            asked.append([ask.views for ask in asks])
            return flown.read(asks)

    reader = Reader(plan_retrieval(FeatureService("s", [DELAYS, request_features])), SCHEMAS)
    rows = {"carrier": ["UA"] * 3, "distance": [1.0] * 3, "departure": [NOON] * 3}
    reader.answer(rows, backend=Counted(), now_us=NOON)
    assert asked == [[("delays",)]]


def test_composite_keys_of_every_type_and_views_without_a_key(backend):
    entity = Entity("thing", keys=["number", "id", "raw"])
    view = FeatureView("things", entity=entity, source=SOURCE, features=["seen"])
    schema = pa.schema([("number", pa.int32()), ("id", pa.uuid()), ("raw", pa.binary()), ("seen", TIME)])
    ids = pa.ExtensionArray.from_storage(pa.uuid(), pa.array([UUID(int=5).bytes, None], pa.binary(16)))
    table = pa.table(
        [
            pa.array([1, 1], pa.int32()),
            ids,
            pa.array([b"x", b"x"]),
            pa.array([NOON, NOON]).cast(TIME),
            pa.array([7, 7]).cast(TIME),
        ],
        names=["number", "id", "raw", "seen", EVENT_TIME],
    )
    assert write_table(backend, view, table, NOON) == Written(rows=2, changed=1, dropped_keys=1)
    whole = FeatureView("whole", source=SOURCE, features=["total"])
    total = pa.table([pa.array([3]), pa.array([7]).cast(TIME)], names=["total", EVENT_TIME])
    assert write_materialised(backend, whole, total, NOON) == 1
    plan = plan_retrieval(FeatureService("s", [view, whole]))
    rows = {"number": [1, 2], "id": [str(UUID(int=5)), UUID(int=5)], "raw": [b"x", b"x"]}
    schemas = {"things": schema, "whole": pa.schema([("total", pa.int64())])}
    got = answer(plan, schemas, rows, backend=backend, now_us=NOON)
    assert got.columns == {"seen": [datetime.fromtimestamp(NOON / 1e6, UTC), None], "total": [3, 3]}
    assert got.event_times["total"] == [7, 7]


def test_windows_and_events_with_identity_have_the_boundary_as_version_others_their_event(backend):
    plain = FeatureView("plain", entity=Entity("carrier"), source=SOURCE, features=["delay"])
    known = SOURCE.model_copy(update={"event_id": "id"})
    identified = FeatureView("identified", entity=Entity("carrier"), source=known, features=["delay"])
    table = materialised(UA=(1.0, None, 1.0, 1, NOON - HOUR))
    for view in (plain, identified, DELAYS):
        write_materialised(backend, view, table, NOON)
    key = [encode_key(("UA",))]
    (found,) = backend.read([Ask(("carrier",), ("plain", "identified", "delays"), key)])
    assert [version_of(value) for value in found[0]] == [(NOON - HOUR, 0), (NOON, 0), (NOON, 0)]
    assert write_materialised(backend, DELAYS, materialised(UA=(None, None, None, 0, None)), NOON + HOUR) == 1
    corrected = table.append_column("__created", pa.array([NOON]).cast(TIME))
    assert write_materialised(backend, plain, corrected, NOON) == 1
    assert write_materialised(backend, plain, table, NOON) == 0


def test_a_table_without_the_event_time_or_a_feature_is_refused(backend):
    table = materialised(UA=(1.0, None, 1.0, 1, NOON))
    with pytest.raises(StoreError, match='"delays": has no column "__event_time"'):
        write_materialised(backend, DELAYS, table.drop([EVENT_TIME]), NOON)
    with pytest.raises(StoreError, match='no type for feature "note"'):
        write_materialised(backend, DELAYS, table.drop(["note"]), NOON)


def test_a_chunked_table_is_written_whole(backend):
    one, two = materialised(UA=(1.0, None, 1.0, 1, NOON)), materialised(DL=(2.0, None, 2.0, 1, NOON))
    assert write_materialised(backend, DELAYS, pa.concat_tables([one, two]), NOON) == 2
    assert ask(backend, ["DL", "UA"]).columns["delay"] == [2.0, 1.0]


def test_a_plan_without_a_views_schema_is_refused(backend):
    with pytest.raises(PlanError, match='"delays": has no schema'):
        Reader(plan_retrieval(SERVICE), {})
    with pytest.raises(PlanError, match=r'puts out "dely", which it does not read.*Did you mean "delay"'):
        Reader(dataclasses.replace(plan_retrieval(SERVICE), columns=("dely",)), SCHEMAS)
    with pytest.raises(PlanError, match='no type for key column "carrier"'):
        Reader(plan_retrieval(SERVICE), {"delays": SCHEMA.remove(0)})


def test_native_types_of_on_demand_inputs_survive(backend):
    source = ParquetSource("s", path="x", event_time="t")
    view = FeatureView("kinds", entity=Entity("carrier"), source=source, features=["id", "labels", "times"])
    schema = pa.schema(
        [
            ("carrier", pa.string()),
            ("id", pa.uuid()),
            ("labels", pa.map_(pa.string(), pa.string())),
            ("times", pa.list_(TIME)),
        ]
    )
    ids = pa.ExtensionArray.from_storage(pa.uuid(), pa.array([UUID(int=5).bytes], pa.binary(16)))
    labels = pa.array([[("a", "b")]], pa.map_(pa.string(), pa.string()))
    table = pa.table(
        [pa.array(["UA"]), ids, labels, pa.array([[0, None]]).cast(pa.list_(TIME)), pa.array([7]).cast(TIME)],
        names=["carrier", "id", "labels", "times", EVENT_TIME],
    )
    write_materialised(backend, view, table, NOON)
    plan = plan_retrieval(FeatureService("s", [view]))
    got = answer(plan, {"kinds": schema}, {"carrier": ["UA"]}, backend=backend, now_us=NOON)
    assert got.rows() == [
        {"id": UUID(int=5), "labels": {"a": "b"}, "times": [datetime(1970, 1, 1, tzinfo=UTC), None]}
    ]
    assert {name: pa.array(values, got.types[name]).type for name, values in got.columns.items()} == got.types


def test_some_of_the_on_demand_features_are_kept_and_an_unknown_one_is_named(flown):
    plan = plan_retrieval(FeatureService("s", [request_features]))
    rows = {"carrier": ["UA"], "distance": [1.0], "departure": [NOON]}
    for features, kept in ((("hour",), ["per__hour"]), (("hours",), None)):
        wanted = dataclasses.replace(
            plan, on_demand=(OnDemandRead(request_features, features, prefix="per"),)
        )
        if kept:
            assert list(answer(wanted, SCHEMAS, rows, backend=flown, now_us=NOON).columns) == kept
        else:
            with pytest.raises(UnknownNameError, match=r'returns no "hours".*Did you mean "hour"'):
                answer(wanted, SCHEMAS, rows, backend=flown, now_us=NOON)


def test_two_views_with_a_feature_of_one_name_do_not_mix(flown):
    """The shown one is the service's; the other only feeds the on-demand features."""
    other = FeatureView("other", entity=Entity("carrier"), source=SOURCE, features=["delay_mean_3h"])
    schema = pa.schema([("carrier", pa.string()), ("delay_mean_3h", pa.float64())])
    table = materialised(UA=(None, None, 99.0, 0, NOON)).select(["carrier", "delay_mean_3h", EVENT_TIME])
    write_materialised(flown, other, table, NOON)
    plan = plan_retrieval(FeatureService("s", [other, request_features]))
    rows = {"carrier": ["UA"], "distance": [1.0], "departure": [NOON]}
    got = answer(plan, {**SCHEMAS, "other": schema}, rows, backend=flown, now_us=NOON)
    assert (got.columns["delay_mean_3h"], got.columns["per_mile"]) == ([99.0], [2.5])


def test_a_hidden_input_of_the_first_view_does_not_stand_in_for_the_second_views_feature(flown):
    other = FeatureView("other", entity=Entity("carrier"), source=SOURCE, features=["delay_mean_3h"])
    schema = pa.schema([("carrier", pa.string()), ("delay_mean_3h", pa.float64())])
    table = materialised(UA=(None, None, 99.0, 0, NOON)).select(["carrier", "delay_mean_3h", EVENT_TIME])
    write_materialised(flown, other, table, NOON)
    plan = plan_retrieval(FeatureService("s", [DELAYS[["note"]], other, request_features]))
    rows = {"carrier": ["UA"], "distance": [1.0], "departure": [NOON]}
    got = answer(plan, {**SCHEMAS, "other": schema}, rows, backend=flown, now_us=NOON)
    assert (got.columns["delay_mean_3h"], got.columns["per_mile"]) == ([99.0], [2.5])
