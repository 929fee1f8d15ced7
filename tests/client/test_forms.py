"""The forms in which callers give rows and take answers, and writing through the client, against a real server."""

from __future__ import annotations

import asyncio
import math
import random
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from mlflow_core.client import (
    AsyncFeatureClient,
    ErasureAnswer,
    FeatureClient,
    PushAnswer,
    RequestRefused,
    Retry,
    ServerUnavailable,
    UnexpectedAnswer,
)
from mlflow_core.serve.run import Served, application
from tests.client.test_calls import FEATURES, answering
from tests.serve.pushed_shop import SOURCE, TOKEN, pushed_project, row
from tests.serve.shop import NOW, TIME, running

SOON = Retry(attempts=3, first_wait_s=0.001, longest_wait_s=0.01, random=random.Random(5))
USERS = [1, 99, 1]
ENTITIES: dict[str, Any] = {
    "mappings": [{"user_id": user} for user in USERS],
    "columns": {"user_id": USERS},
    "a DataFrame": pd.DataFrame({"user_id": USERS}),
    "a DataFrame of nullable integers": pd.DataFrame({"user_id": pd.array(USERS, "Int64")}),
    "an Arrow table": pa.table({"user_id": pa.array(USERS, pa.int64())}),
    "a record batch": pa.record_batch({"user_id": pa.array(USERS, pa.int32())}),
}
BASKET = {"basket": [30.0, 1.0, 30.0]}


@pytest.fixture(scope="module")
def till(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    root: Path = pushed_project(tmp_path_factory.mktemp("writing"), "writing_shop")
    with running(application(Served(str(root), clock=NOW))) as address:
        yield address


@pytest.mark.parametrize("form", ENTITIES)
def test_entities_in_every_form_get_the_same_answer(url: str, form: str) -> None:
    with FeatureClient(url, timeout_s=30.0) as client:
        answer = client.get("shop", ENTITIES[form], request=BASKET, event_timestamps=True)

    assert answer.to_dicts()[0] == answer.to_dicts()[2] == FEATURES
    assert answer.statuses["big"] == ["PRESENT", "NOT_FOUND", "PRESENT"]
    assert answer.statuses["relative"] == ["PRESENT", "NULL_VALUE", "PRESENT"]
    at = datetime(2024, 1, 10, 1, tzinfo=UTC)
    assert answer.event_times["country"] == [at, None, at]


def test_a_status_that_all_rows_have_is_there_for_each(url: str) -> None:
    with FeatureClient(url, timeout_s=30.0) as client:
        answer = client.get("plain", {"user_id": [1, 2]})

    assert answer.statuses == {"amount_mean_24h": ["PRESENT"] * 2, "orders_24h": ["PRESENT"] * 2}
    assert answer.event_times == {}


def test_missing_values_of_pandas_are_nulls_and_match_nothing(url: str) -> None:
    entities = pd.DataFrame({"user_id": [1.0, math.nan]})

    with FeatureClient(url, timeout_s=30.0) as client:
        answer = client.get("plain", entities)

    assert answer.statuses["orders_24h"] == ["PRESENT", "NOT_FOUND"]


def test_answers_are_had_as_pandas_and_as_arrow_without_losing_anything(url: str) -> None:
    async def streamed() -> pa.Table:
        async with AsyncFeatureClient(url, timeout_s=30.0) as one:
            return await one.get_arrow("shop", {"user_id": USERS}, request=BASKET)

    with FeatureClient(url, timeout_s=30.0) as client:
        answer = client.get("shop", {"user_id": USERS}, request=BASKET)
        table = client.get_arrow("shop", {"user_id": USERS}, request=BASKET, event_timestamps=True)
    frame, converted, later = answer.to_pandas(), answer.to_arrow(), asyncio.run(streamed())

    assert frame["big"].tolist() == [2**60, pd.NA, 2**60]
    assert str(frame["joined"].dtype) == "datetime64[us, UTC]"
    assert frame["last_items"].tolist() == [["pen", "ink"], None, ["pen", "ink"]]
    assert converted.to_pylist()[0] == FEATURES
    assert table.select(list(FEATURES)).equals(converted)
    assert table["big__status"].to_pylist() == ["PRESENT", "NOT_FOUND", "PRESENT"]
    assert table["country__time"].to_pylist()[0] == datetime(2024, 1, 10, 1, tzinfo=UTC)
    assert later.equals(table.select(later.column_names))


def test_rows_of_columns_that_do_not_fit_are_refused_before_they_are_sent(url: str) -> None:
    with FeatureClient(url) as client:
        with pytest.raises(ValueError, match="different lengths: user_id 2, basket 1"):
            client.get("shop", {"user_id": [1, 2], "basket": [1.0]})
        with pytest.raises(TypeError, match="rows are a int"):
            client.get("shop", 4)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match='row 1 has no "b"'):
            client.push("any", [{"a": 1, "b": 1}, {"a": 1}])


def test_rows_are_pushed_in_every_form_and_read_back(till: str) -> None:
    frame = pd.DataFrame([row(2, opened=pd.Timestamp("2024-01-10T08:00Z"), clerk=None)])
    times = {
        name: pa.array([datetime(2024, 1, 10, 9, 30, tzinfo=UTC)], TIME) for name in ("opened", "at", "made")
    }
    items = pa.array([[3, 1]], pa.list_(pa.int64()))
    table = pa.table({"till_id": [3], "shop_rating": [4.5], "clerk": ["bob"], "items": items, **times})

    with FeatureClient(till, token=TOKEN, timeout_s=30.0) as client:
        written = [
            client.push(SOURCE, rows)
            for rows in ([row(1)], frame, table, {k: [v] for k, v in row(4).items()})
        ]
        again = client.push(SOURCE, table)
        answer = client.get("tills", {"till_id": [1, 2, 3, 4]})

    assert written == [PushAnswer(1, 2, {"till_clerk": 1, "till_state": 1})] * 4
    assert again.written == 0
    assert answer.columns["rating"] == [4.5] * 4
    assert answer.columns["clerk"] == ["bob", None, "bob", "bob"]
    assert answer.columns["items"] == [[3, 1]] * 4


def test_an_entity_is_deleted_and_the_async_client_does_the_same(till: str) -> None:
    async def both() -> tuple[PushAnswer, ErasureAnswer, list[str]]:
        async with AsyncFeatureClient(till, timeout_s=30.0) as one:
            pushed = await one.push(SOURCE, [row(7)], token=TOKEN)
            erased = await one.delete("till", {"till_id": 7}, token=TOKEN)
            return pushed, erased, (await one.get("clerks", {"till_id": [7]})).statuses["clerk"]

    pushed, erased, statuses = asyncio.run(both())
    with FeatureClient(till, token=TOKEN, timeout_s=30.0) as client:
        again = client.delete("till_id", {"till_id": 7})

    assert pushed.written == 2
    assert erased.online == {"till_clerk": 1, "till_state": 1}
    assert (erased.columns, erased.erasure) == (("till_id",), again.erasure)
    assert erased.erased_until == datetime(2024, 1, 10, 10, 30, tzinfo=UTC)
    assert statuses == ["NOT_FOUND"]


@pytest.mark.parametrize("token", [None, "not-the-right-token"])
def test_a_missing_or_wrong_token_is_refused_once_and_never_told(till: str, token: str | None) -> None:
    with FeatureClient(till, token=token) as client:
        for write in (lambda: client.push(SOURCE, [row(1)]), lambda: client.delete("till", {"till_id": 1})):
            with pytest.raises(RequestRefused) as refused:
                write()
            assert (refused.value.status, refused.value.attempts) == (401, 1)
            assert "not-the-right-token" not in str(refused.value) + repr(refused.value)


def test_a_push_is_tried_again_with_its_token_and_says_in_the_end_what_is_not_there() -> None:
    done = (200, {"rows": 1, "written": 0, "views": {"a": 0}}, {})
    down = (503, {"error": "the online store cannot be written", "degraded": "store"}, {"retry-after": "0"})
    app, asked = answering(down, down, done)
    with running(app) as url, FeatureClient(url, retry=SOON, token=TOKEN) as client:
        assert client.push("live/odd name", [row()]).rows == 1
    assert asked == ["/v1/push/live/odd name"] * 3

    app, _ = answering(down)
    with (
        running(app) as url,
        FeatureClient(url, retry=SOON) as client,
        pytest.raises(ServerUnavailable) as unavailable,
    ):
        client.push("live", [row()])
    assert (unavailable.value.degraded, unavailable.value.attempts) == ("store", 3)


@pytest.mark.parametrize("data", [{"rows": 1}, {"rows": "x", "written": 0, "views": {}}])
def test_an_answer_of_something_else_is_said_to_be_one(data: dict[str, object]) -> None:
    app, _ = answering((200, data, {}))
    with running(app) as url, FeatureClient(url) as client:
        with pytest.raises(UnexpectedAnswer):
            client.push("live", [row()])
        with pytest.raises(UnexpectedAnswer):
            client.delete("till", {"till_id": 1})
        with pytest.raises(UnexpectedAnswer):
            client.get_arrow("plain", {"user_id": [1]})


def test_reading_with_plain_values_loads_neither_pandas_nor_arrow(url: str) -> None:
    told = (
        "import sys\n"
        "from mlflow_core.client import FeatureClient\n"
        f"with FeatureClient({url!r}, timeout_s=30.0) as client:\n"
        "    client.get('plain', {'user_id': [1]})\n"
        "print([m for m in ('pandas', 'pyarrow', 'numpy', 'pydantic', 'feast') if m in sys.modules])"
    )

    answer = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)

    assert answer.stdout.strip() == "[]"
