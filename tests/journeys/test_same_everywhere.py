"""The same rows through Feast's SDK, our client and the server's plain JSON: one answer, on every backend.

Rows of every type are written in any order and batches and again; a dictionary of each key's greatest version is
the truth beside them. TTL, unknown, erased and null keys, and nulls are among what is asked.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import math
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any, NamedTuple
from uuid import UUID

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast import FeatureStore
from feast.protos.feast.serving.ServingService_pb2 import FieldStatus

from mlflow_core.client import FeatureClient
from mlflow_core.config.clock import FixedClock
from mlflow_core.feast.online_store import open_backend
from mlflow_core.feast.registry import open_store
from mlflow_core.feast.stored_view import stored_view
from mlflow_core.online.answer import Status
from mlflow_core.online.backend import Ask
from mlflow_core.online.keys import encode_key
from mlflow_core.online.write import CREATED, EVENT_TIME
from mlflow_core.serve.run import Served, application
from mlflow_core.spec import DType
from tests.online.of_every_type import same, to_arrow
from tests.online.writing import write_table
from tests.serve.shop import mlcore, running
from tests.servers.online import BACKENDS, online_section

SEED = 20131115
SECOND = 1_000_000
HOUR = 3_600 * SECOND
NOW = datetime(2024, 1, 10, 10, 30, tzinfo=UTC)
NOW_US = int(NOW.timestamp()) * SECOND
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
VIEWS: dict[str, dict[str, DType]] = {
    "things": {"number": DType.INT64, "name": DType.STRING},
    "marks": {"mark": DType.UUID},
    "blobs": {"blob": DType.BYTES, "part": DType.INT32},
    "counted": {"number": DType.INT64},
    "numbers": {"number": DType.INT64},
    "whole": {"number": DType.INT64},
}
FEATURES: dict[str, dict[str, DType]] = {
    "things": {f"a_{dtype.name.lower()}": dtype for dtype in DType},
    "marks": {"b": DType.FLOAT64},
    "blobs": {"c": DType.STRING},
    "counted": {"n": DType.INT64, "mean": DType.FLOAT64},
    # Numbers alone may be answered by another way than the rest: of several types, and of one.
    "numbers": {"e": DType.INT64, "f": DType.FLOAT32, "g": DType.BOOL},
    "whole": {"h": DType.INT64, "i": DType.INT64},
}
SERVICES = {"all": tuple(VIEWS), "two": ("numbers", "whole"), "one": ("whole",)}
DECLARATIONS = """\
import mlflow_core as ml

every = ml.Every("1h")
sources = {name: ml.ParquetSource(name, path=f"data/{name}.parquet", event_time="at") for name in %(keys)r}
things, marks, blobs, numbers, whole = (
    ml.FeatureView(name, entity=ml.Entity(f"{name}_key", keys=keys), source=sources[name], features=%(features)r[name],
                   ttl="2h", availability=every)
    for name, keys in %(keys)r.items() if name != "counted"
)
counted = ml.FeatureView(
    "counted", entity=ml.Entity("counted_key", keys=["number"]), source=sources["counted"], availability=every,
    features=[ml.Agg("*", "count", over="3h", name="n"), ml.Agg("x", "mean", over="3h", name="mean")],
)
services = [
    ml.FeatureService(name, [{"counted": counted, "things": things, "marks": marks, "blobs": blobs,
                              "numbers": numbers, "whole": whole}[view] for view in views])
    for name, views in %(services)r.items()
]
all, two, one = services
"""


class Row(NamedTuple):
    """A row to be written, and its version."""

    key: tuple[Any, ...]
    values: tuple[Any, ...]
    event: int
    created: int


class World(NamedTuple):
    """A repository with rows in its online store, and what is true of them."""

    root: Path
    store: FeatureStore
    greatest: dict[str, dict[tuple[Any, ...], Row]]
    questions: list[Question]


class Question(NamedTuple):
    """What is asked of a service."""

    service: str
    rows: list[dict[str, Any]]


def drawn(rng: Random, dtype: DType) -> Any:
    """A value of a type; times are whole seconds, and lists have no nulls: Feast's protobuf holds no others."""
    if dtype.item is not dtype:
        return [drawn(rng, dtype.item) for _ in range(rng.randrange(4))]
    text = "".join(rng.choice('aü"\\\n€') for _ in range(rng.randrange(5)))
    return {
        DType.BOOL: lambda: rng.random() < 0.5,
        DType.INT64: lambda: rng.choice([rng.randrange(-(2**63), 2**63), *[-(2**63)] * 3, *range(-3, 6)]),
        DType.INT32: lambda: rng.randrange(-(2**31), 2**31),
        DType.FLOAT64: lambda: rng.choice([rng.uniform(-1e9, 1e9), math.nan, math.inf, -0.0]),
        DType.FLOAT32: lambda: rng.choice([-math.inf, *(rng.randrange(-999, 999) / 8 for _ in range(9))]),
        DType.STRING: lambda: text,
        DType.BYTES: lambda: rng.randbytes(rng.randrange(5)),
        DType.TIMESTAMP: lambda: rng.randrange(-(2**31), 2**32) * SECOND,
        DType.UUID: lambda: UUID(int=rng.getrandbits(128)),
        DType.MAP: lambda: {str(i): text for i in range(rng.randrange(3))},
    }[dtype]()


def make_repository(root: Path, section: dict[str, str]) -> None:
    package = f"everywhere_{section['backend']}"  # a process imports a name once
    repo = root / package
    (repo / "data").mkdir(parents=True)
    (root / "mlcore.toml").write_text(f'[project]\nfeature_repo = "{package}"\n')
    (repo / "__init__.py").write_text("")
    config = {
        "project": "everywhere",
        "provider": "local",
        "registry": {"registry_type": "sql", "path": "sqlite:///data/registry.db"},
        "offline_store": {"type": "mlflow_core.feast.offline_store.DaskOfflineStore"},
        "online_store": {**section, "clock": NOW.isoformat()},
        "batch_engine": {"type": "mlflow_core.feast.compute_engine.DaskComputeEngine"},
        "entity_key_serialization_version": 3,
    }
    (repo / "feature_store.yaml").write_text(json.dumps(config))  # JSON is YAML
    told = {
        "keys": {view: list(keys) for view, keys in VIEWS.items()},
        "features": {view: list(features) for view, features in FEATURES.items()},
        "services": SERVICES,
    }
    (repo / "declared.py").write_text(DECLARATIONS % told)
    for view, keys in VIEWS.items():
        columns = {"x": DType.FLOAT64} if view == "counted" else FEATURES[view]
        empty = {
            name: to_arrow([], dtype) for name, dtype in {**keys, **columns, "at": DType.TIMESTAMP}.items()
        }
        pq.write_table(pa.table(empty), repo / "data" / f"{view}.parquet")


def write_rows(rng: Random, store: FeatureStore) -> dict[str, dict[tuple[Any, ...], Row]]:
    """Write rows of every view in any order, a third of them twice; return each key's greatest."""
    backend = open_backend(store.config, FixedClock(NOW_US))
    greatest: dict[str, dict[tuple[Any, ...], Row]] = {}
    for view, keys in VIEWS.items():
        pool = list(dict.fromkeys(tuple(drawn(rng, dtype) for dtype in keys.values()) for _ in range(12)))
        rows = [
            Row(
                key=rng.choice(pool),
                values=tuple(
                    None if rng.random() < (0.02 if view in SERVICES["two"] else 0.2) else drawn(rng, one)
                    for one in FEATURES[view].values()
                ),
                event=NOW_US,
                created=NOW_US + i,
            )
            for i in range(60)
        ]
        # Of every third key all is past the TTL of two hours; of others something is just not. Some share a time.
        oldest = {key: (120 if i % 3 == 0 else 0, 121 if i % 3 == 1 else 150) for i, key in enumerate(pool)}
        rows = [row._replace(event=NOW_US - rng.randrange(*oldest[row.key]) * 60 * SECOND) for row in rows]
        rows = [row._replace(event=row.event - (row.key == pool[0]) * SECOND) for row in rows]
        if view == "counted":  # its version is the boundary, which has one row a key
            rows = [row._replace(event=NOW_US - i % 5 * HOUR) for i, row in enumerate(rows)]
            rows = list({(row.key, row.event): row for row in rows}.values())
        best = greatest[view] = {}
        for row in rows:
            if row.key not in best or (row.event, row.created) > (best[row.key].event, best[row.key].created):
                best[row.key] = row
        written = [*rows, *rng.sample(rows, len(rows) // 3)]
        rng.shuffle(written)
        declared = stored_view(store.get_feature_view(view))
        for batch in batches(rng, written, one_boundary=view == "counted"):
            write_table(backend, declared, as_table(view, batch), boundary=batch[0].event)
        erased = next(iter(best))
        backend.erase([Ask(tuple(declared.keys), (view,), [encode_key(erased)])])
        del best[erased]
    backend.close()
    return greatest


def batches(rng: Random, rows: list[Row], *, one_boundary: bool) -> Iterator[list[Row]]:
    while rows:
        n = rng.randrange(1, 12)
        batch, rows = rows[:n], rows[n:]
        grouped = itertools.groupby(batch, key=lambda row: row.event if one_boundary else 0)
        yield from (list(group) for _, group in grouped)


def as_table(view: str, rows: list[Row]) -> pa.Table:
    columns = {name: [row.key[i] for row in rows] for i, name in enumerate(VIEWS[view])}
    columns |= {name: [row.values[i] for row in rows] for i, name in enumerate(FEATURES[view])}
    types = {**VIEWS[view], **FEATURES[view], EVENT_TIME: DType.TIMESTAMP, CREATED: DType.TIMESTAMP}
    columns |= {EVENT_TIME: [row.event for row in rows], CREATED: [row.created for row in rows]}
    return pa.table({name: to_arrow(values, types[name]) for name, values in columns.items()})


def drawn_questions(rng: Random, greatest: dict[str, dict[tuple[Any, ...], Row]]) -> list[Question]:
    """Known keys, unknown ones and null ones, some more than once; a service's rows all together and one by one."""
    rows = []
    for i in range(40):
        row: dict[str, Any] = {}
        for view in ("whole", "numbers", "counted", "things", "marks", "blobs"):
            key = rng.choice(list(greatest[view]))
            for (name, dtype), value in zip(VIEWS[view].items(), key, strict=True):
                row[name] = None if i % 13 == 5 else drawn(rng, dtype) if rng.random() < 0.1 else value
        if row["number"] is not None and i % 3 < 2:
            row["number"] = rng.choice(list(greatest["counted" if i % 3 else "whole"]))[0]
        rows.append(row)
    rows += rows[:5]
    known = [{"number": key} for key, *_ in greatest["whole"]]
    return [
        Question("all", rows),
        *(Question("all", [row]) for row in rows[::9]),
        *(
            Question("two", [{"number": row["number"]} for row in some])
            for some in (rows, *([row] for row in rows[::3]))
        ),
        *(Question("one", rng.choices(known, k=1 + i % 4)) for i in range(40)),
    ]


@pytest.fixture(scope="module", params=BACKENDS)
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    rng = Random(SEED)
    with online_section(request.param) as section:
        root = tmp_path_factory.mktemp("everywhere")
        make_repository(root, section)
        assert mlcore(root, "apply") == 0
        store = open_store(root / f"everywhere_{request.param}")
        greatest = write_rows(rng, store)
        yield World(root, store, greatest, drawn_questions(rng, greatest))
        asyncio.run(store._get_provider().online_store.close())


Told = dict[str, list[tuple[Any, str]]]


def truth(world: World, question: Question) -> Told:
    told: Told = {name: [] for view in SERVICES[question.service] for name in FEATURES[view]}
    for view, row in itertools.product(SERVICES[question.service], question.rows):
        found = world.greatest[view].get(tuple(row[name] for name in VIEWS[view]))
        for i, (name, dtype) in enumerate(FEATURES[view].items()):
            value = None if found is None else found.values[i]
            if found is None:
                told[name].append((0 if name == "n" else None, "NOT_FOUND"))
            elif view != "counted" and found.event < NOW_US - 2 * HOUR:
                told[name].append((None, "OUTSIDE_MAX_AGE"))
            else:
                told[name].append((shown(value, dtype), "NULL_VALUE" if value is None else "PRESENT"))
    return told


def shown(value: Any, dtype: DType) -> Any:
    if value is None or dtype.item is not DType.TIMESTAMP:
        return value
    if isinstance(value, list):
        return [shown(one, DType.TIMESTAMP) for one in value]
    return EPOCH + timedelta(microseconds=value)


def told_in_json(told: Told, *, feasts: bool) -> Told:
    return {
        name: [(in_json(value, feasts=feasts), status) for value, status in cells]
        for name, cells in told.items()
    }


def in_json(value: Any, *, feasts: bool) -> Any:
    """A value in JSON, in our server's words or in those of Feast's."""
    if isinstance(value, list):
        return [in_json(one, feasts=feasts) for one in value]
    if isinstance(value, datetime):
        seconds = (value - EPOCH) // timedelta(seconds=1)
        return seconds if feasts else value.strftime("%Y-%m-%dT%H:%M:%SZ")
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if type(value) is int and abs(value) > 2**53 and not feasts:
        return str(value)
    return value


def assert_told(got: Told, wanted: Told) -> None:
    assert got.keys() == wanted.keys()
    for name, cells in wanted.items():
        assert [status for _, status in got[name]] == [status for _, status in cells], name
        for (value, _), (right, status) in zip(got[name], cells, strict=True):
            assert same(value, right), (name, status, value, right)


def test_feasts_sdk_our_client_and_the_servers_json_tell_the_truth(world: World) -> None:
    truths = [truth(world, question) for question in world.questions]
    counted = Counter(status for wanted in truths for cells in wanted.values() for _, status in cells)
    print(f"seed {SEED}: {dict(counted)}")
    assert all(counted[status] > 50 for status in Status)
    for question, wanted in zip(world.questions, truths, strict=True):
        assert_told(by_sdk(world.store, question), wanted)
    with (
        running(application(Served(str(world.root), clock=NOW.isoformat()))) as url,
        FeatureClient(url, timeout_s=30.0) as client,
        httpx.Client(base_url=url, timeout=30.0) as http,
    ):
        for question, wanted in zip(world.questions, truths, strict=True):
            assert_told(by_client(client, question), wanted)
            assert_told(by_feasts_json(http, question), told_in_json(wanted, feasts=True))
            assert_told(by_our_json(http, question), told_in_json(wanted, feasts=False))


def by_sdk(store: FeatureStore, question: Question) -> Told:
    response = store.get_online_features(store.get_feature_service(question.service), question.rows)
    told = dict(zip(response.proto.metadata.feature_names.val, response.proto.results, strict=True))
    return {
        name: list(zip(values, map(FieldStatus.Name, told[name].statuses), strict=True))
        for name, values in response.to_dict().items()
        if name not in question.rows[0]
    }


def by_client(client: FeatureClient, question: Question) -> Told:
    got = client.get(question.service, question.rows)
    return {name: list(zip(values, got.statuses[name], strict=True)) for name, values in got.columns.items()}


def by_feasts_json(http: httpx.Client, question: Question) -> Told:
    keys = {name: [in_json(row[name], feasts=True) for row in question.rows] for name in question.rows[0]}
    got = http.post("/get-online-features", json={"feature_service": question.service, "entities": keys})
    assert got.status_code == 200, got.text
    told = dict(zip(got.json()["metadata"]["feature_names"], got.json()["results"], strict=True))
    return {
        name: list(zip(one["values"], one["statuses"], strict=True))
        for name, one in told.items()
        if name not in keys
    }


def by_our_json(http: httpx.Client, question: Question) -> Told:
    rows = [{name: in_json(value, feasts=False) for name, value in row.items()} for row in question.rows]
    got = http.post("/v1/features", json={"service": question.service, "entities": rows})
    assert got.status_code == 200, got.text
    data, n = got.json(), len(rows)
    told = {name: [some] * n if isinstance(some, str) else some for name, some in data["statuses"].items()}
    return {name: list(zip(values, told[name], strict=True)) for name, values in data["features"].items()}
