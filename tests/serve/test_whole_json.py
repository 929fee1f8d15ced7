"""Whole answers are the reader's own: the same JSON where all values are there, and no answer where one is not."""

from __future__ import annotations

from random import Random

import numpy as np
import orjson
import pyarrow as pa
import pytest

from mlflow_core.online.form import Packed
from mlflow_core.online.head import tombstone
from mlflow_core.online.layout import codec_of
from mlflow_core.online.write import EVENT_TIME, packed_rows
from mlflow_core.plan.retrieval import RetrievalPlan, ViewRead
from mlflow_core.serve import whole_json
from mlflow_core.serve.served import ServedReader, served_reader
from mlflow_core.spec import Agg, DType, Entity, FeatureView, ParquetSource

SEED = 20240110
NOW = 1_700_000_000_000_000
TIME = pa.timestamp("us", tz="UTC")
SOURCE = ParquetSource("s", path="x.parquet", event_time="t")
IDENTIFIED = ParquetSource("i", path="x.parquet", event_time="t", event_id="id")
KINDS = {
    "float64": (pa.float64(), lambda random: random.gauss(0, 1e3)),
    "float32": (pa.float32(), lambda random: float(np.float32(random.random()))),
    "int64": (pa.int64(), lambda random: random.choice([0, -5, 2**53, -(2**53)])),
    "int32": (pa.int32(), lambda random: random.randrange(-9, 9)),
    "bool": (pa.bool_(), lambda random: random.random() < 0.5),
}
SPOILERS = ["null", "nan", "infinite", "wide", "missing", "erased", "late", "other definition", "cut"]


class World:
    """Two views of one entity, one of them of several kinds of numbers, and rows of them."""

    def __init__(self, random: Random, n: int) -> None:
        self.random, self.n = random, n
        self.views, self.schemas, self.rows = [], {}, {}
        for number, kinds in enumerate([["float64"] * 4, random.choices(list(KINDS), k=5)]):
            source = random.choice([SOURCE, IDENTIFIED])
            names = [f"v{number}_{i}" for i in range(len(kinds))]
            view = FeatureView(
                f"view{number}",
                entity=Entity("k"),
                source=source,
                features=names,
                ttl=random.choice([None, "1h"]),
            )
            schema = pa.schema(
                [("k", pa.int64()), *zip(names, (KINDS[kind][0] for kind in kinds), strict=True)]
            )
            columns = {
                name: pa.array([KINDS[kind][1](random) for _ in range(n)], KINDS[kind][0])
                for name, kind in zip(names, kinds, strict=True)
            }
            same = random.random() < 0.5
            times = [NOW - (0 if same else random.randrange(3_000_000_000)) for _ in range(n)]
            events = pa.array(times, pa.int64()).cast(TIME)
            table = pa.table({"k": pa.array(range(n)), **columns, EVENT_TIME: events})
            self.views.append(view)
            self.schemas[view.name] = schema
            self.rows[view.name] = dict(packed_rows(view, table, NOW, schema)[1])

    def served(self, *, some: bool) -> ServedReader:
        features = [view.feature_names for view in self.views]
        if some:
            features = [tuple(self.random.sample(names, 3)) for names in features]
        reads = tuple(
            ViewRead(view, tuple(n for n in view.feature_names if n in names), "event", (("k", "k"),))
            for view, names in zip(self.views, features, strict=True)
        )
        plan = RetrievalPlan(reads, (), tuple(name for names in features for name in names))
        return served_reader(plan, self.schemas, {"k": DType.INT64}, {}, Packed())

    def found(self, asked) -> list[list[list[bytes | None]]]:
        return [[[self.rows[view].get(key) for view in ask.views] for key in ask.keys] for ask in asked.asks]


def both(served: ServedReader, asked, found) -> tuple[dict | None, dict, dict | None, dict]:
    """Feast's JSON and ours, from the whole answer and from the reader."""
    columns = asked.entity_rows
    answer = served.reader.answer_of(asked, found, now_us=NOW, times=True)
    decided = orjson.loads(served.feast.body(answer, columns)), orjson.loads(served.compact.body(answer))
    assert served.whole is not None
    whole = served.whole.read(asked, found, NOW)
    if whole is None:
        return None, decided[0], None, decided[1]
    text = served.feast.ended(served.feast.head(columns) + served.whole.feast(whole, asked.n_rows))
    return orjson.loads(text), decided[0], orjson.loads(served.whole.compact(whole, asked.n_rows)), decided[1]


def same(got: object, wanted: object) -> bool:
    """Equal, and of one type: 1 is not true, 1.0 is not 1."""
    return orjson.dumps(got) == orjson.dumps(wanted)


@pytest.mark.parametrize("n", [1, 2, 7, 40])
@pytest.mark.parametrize("some", [False, True], ids=["all features", "some in another order"])
def test_a_whole_answer_is_the_readers_answer(n: int, some: bool) -> None:
    print(f"seed {SEED}")
    random = Random(SEED + n)
    for _ in range(40):
        world = World(random, n)
        served = world.served(some=some)
        asked = served.reader.ask({"k": [random.randrange(n) for _ in range(n)]})
        feast, decided, compact, told = both(served, asked, world.found(asked))
        assert same(feast, decided)
        assert same(compact, told)
        answer = served.reader.answer_of(asked, world.found(asked), now_us=NOW)
        assert served.whole is not None
        whole = served.whole.read(asked, world.found(asked), NOW)
        assert whole is not None
        # As our own client asks.
        typed = orjson.loads(served.whole.compact(whole, n, types=True))
        assert same(typed, served.compact.data(answer, types=True))
        counted = [(view, "PRESENT", features * n) for view, features in served.whole.counted]
        assert sorted(counted) == sorted(served.tallies(answer))


@pytest.mark.parametrize("spoiler", SPOILERS)
@pytest.mark.parametrize("n", [1, 9])
def test_one_value_that_is_not_there_makes_the_reader_decide(spoiler: str, n: int) -> None:
    random = Random(SEED)
    for _ in range(12):
        world = World(random, n)
        view = world.views[0].model_copy(update={"ttl": None})
        if spoiler == "late":
            view = FeatureView(
                "view0", entity=view.entity, source=view.source, features=view.features, ttl="1h"
            )
        world.views[0] = view
        key = random.choice(list(world.rows["view0"]))
        spoil(world, view, key, spoiler)
        served = world.served(some=False)
        asked = served.reader.ask({"k": list(range(n))})
        assert served.whole is not None
        assert served.whole.read(asked, world.found(asked), NOW) is None


def spoil(world: World, view: FeatureView, key: bytes, spoiler: str) -> None:
    rows = world.rows["view0"]
    if spoiler == "missing":
        del rows[key]
    elif spoiler == "erased":
        rows[key] = tombstone(NOW, 0)
    elif spoiler == "other definition":
        rows[key] = rows[key][:18] + b"another!" + rows[key][26:]
    elif spoiler == "cut":
        rows[key] = rows[key][:-1]
    else:
        value = {"null": None, "nan": float("nan"), "infinite": float("inf"), "late": 1.0, "wide": 1.0}[
            spoiler
        ]
        kind = pa.int64() if spoiler == "wide" else pa.float64()
        names = view.feature_names
        schema = pa.schema([("k", pa.int64()), *((name, kind) for name in names)])
        columns = {name: pa.array([2**53 + 1 if spoiler == "wide" else value], kind) for name in names}
        time = NOW - 3_600_000_001 if spoiler == "late" else NOW
        event = pa.array([time]).cast(TIME)
        table = pa.table({"k": pa.array([0]), **columns, EVENT_TIME: event})
        value = packed_rows(view, table, NOW, schema)[1][0][1]
        if spoiler == "wide":  # the view is one of integers then
            world.schemas["view0"] = schema
            for other in rows:
                rows[other] = value
        else:
            rows[key] = value


def test_windows_are_whole_with_the_time_of_their_boundary() -> None:
    view = FeatureView(
        "w", entity=Entity("k"), source=SOURCE, features=[Agg("x", ["mean", "max"], over="1h")]
    )
    schema = pa.schema([("k", pa.int64()), ("x_mean_1h", pa.float64()), ("x_max_1h", pa.float64())])
    table = pa.table(
        {
            "k": [0, 1],
            "x_mean_1h": [1.5, 2.5],
            "x_max_1h": [3.0, 4.0],
            EVENT_TIME: pa.array([7, 8]).cast(TIME),
        }
    )
    rows = dict(packed_rows(view, table, 1_384_522_200_000_000, schema)[1])
    reads = (ViewRead(view, view.feature_names, "event", (("k", "k"),)),)
    served = served_reader(
        RetrievalPlan(reads, (), view.feature_names), {"w": schema}, {"k": DType.INT64}, {}, Packed()
    )
    asked = served.reader.ask({"k": [1, 0]})
    feast, decided, _, _ = both(served, asked, [[[rows[key]] for key in asked.asks[0].keys]])
    assert feast == decided
    assert feast is not None
    assert feast["results"][1] == {
        "values": [2.5, 1.5],
        "statuses": ["PRESENT", "PRESENT"],
        "event_timestamps": ["2013-11-15T13:30:00Z", "2013-11-15T13:30:00Z"],
    }


def test_what_is_no_number_or_computed_is_never_whole() -> None:
    view = FeatureView("texts", entity=Entity("k"), source=SOURCE, features=["name"])
    schema = pa.schema([("k", pa.int64()), ("name", pa.string())])
    assert codec_of(view, schema).names == ("name",)
    reads = (ViewRead(view, ("name",), "event", (("k", "k"),)),)
    plan = RetrievalPlan(reads, (), ("name",))
    assert served_reader(plan, {"texts": schema}, {"k": DType.INT64}, {}, Packed()).whole is None


def test_what_is_kept_of_long_answers_does_not_grow_with_their_lengths() -> None:
    """The end of a view's columns is kept for short answers; of ten thousand rows it has a third of a megabyte."""
    before = whole_json._kept_tail.cache_info().currsize
    for n in range(9_000, 9_020):
        assert whole_json._tail(NOW, n).count(b"PRESENT") == n
    assert whole_json._kept_tail.cache_info().currsize == before
    assert whole_json._tail(NOW, 2) == whole_json._tail_of([NOW, NOW])
