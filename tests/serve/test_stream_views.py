"""Stream feature views of Feast: served, and pushed to, as the latest values that are stored of them."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from feast import FeatureService, Field, StreamFeatureView
from feast.types import Int64, String

from mlflow_core.feast.registry import open_store
from mlflow_core.serve.run import Served, application
from tests.serve.pushed_shop import BEARER, SOURCE, pushed_project, row
from tests.serve.shop import NOW, running


@pytest.mark.filterwarnings(
    "ignore:Stream feature views are experimental:RuntimeWarning"
)  # Feast's, as one is made
def test_a_stream_view_is_pushed_to_and_read_and_its_code_is_not_run(tmp_path: Path) -> None:
    root = pushed_project(tmp_path, "stream_shop")
    ran = tmp_path / "ran"
    store = open_store(root / "stream_shop")

    def transform(frame):  # type: ignore[no-untyped-def]
        ran.touch()
        return frame

    streamed = StreamFeatureView(
        name="till_stream",
        entities=[store.get_entity("till")],
        schema=[Field(name="till_id", dtype=Int64), Field(name="clerk", dtype=String)],
        source=store.get_data_source(SOURCE),
        ttl=timedelta(days=2),
        udf=transform,
        udf_string="def transform(frame): ...",
        mode="pandas",
    )
    store.apply([streamed, FeatureService(name="streamed", features=[streamed])])

    with running(application(Served(str(root), clock=NOW))) as url:
        pushed = httpx.post(f"{url}/v1/push/{SOURCE}", json={"rows": [row(1)]}, headers=BEARER, timeout=30.0)
        body = {"service": "streamed", "entities": [{"till_id": 1}, {"till_id": 2}]}
        answer = httpx.post(f"{url}/v1/features", json=body, timeout=30.0)
        asked = {"features": ["till_stream:clerk"], "entities": {"till_id": [1]}}
        named = httpx.post(f"{url}/get-online-features", json=asked, timeout=30.0)

    assert pushed.json()["views"] == {"till_clerk": 1, "till_state": 1, "till_stream": 1}
    assert answer.json() == {
        "features": {"clerk": ["bob", None]},
        "statuses": {"clerk": ["PRESENT", "NOT_FOUND"]},
    }
    assert named.json()["results"][1]["values"] == ["bob"]
    assert not ran.exists()
