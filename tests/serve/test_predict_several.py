"""A model with several values a row: the same lists from the command, over HTTP, from the client and of the model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlflow_core.artifacts import ArtifactStore
from mlflow_core.client import FeatureClient
from mlflow_core.config import FixedClock, Principal, load_settings, parse_time
from mlflow_core.metadata import MetadataStore
from mlflow_core.serve.app import Limits
from mlflow_core.serve.features import Features, make_importable
from mlflow_core.serve.run import Served, application
from mlflow_core.spec.trainer import Sklearn
from mlflow_core.train import TrainContext, fit
from mlflow_core.train.data.training_set import TrainingData
from mlflow_core.train.models.model import Model
from tests.serve.shop import NOW, ROW, mlcore, prepared, running

FEATURES = ("amount_mean_24h", "orders_24h", "relative")
WORDS = ("predict", "basket_size", "--at", NOW, "user_id=1", "basket=30")


def registered(root: Path) -> Model:
    """A model of three classes on the shop's features, registered as ``basket_size``."""
    settings, clock = load_settings(root), FixedClock(parse_time(NOW))
    make_importable(root)
    served = Features.open(settings.feature_repo_path(), clock)
    fingerprints = dict(served.service("shop").fingerprints)
    served.close()
    random = np.random.default_rng(7)
    columns = {name: random.normal(10.0, 5.0, 300) for name in FEATURES}
    path = root / "train.parquet"
    pq.write_table(pa.table({**columns, "size": np.digitize(columns["amount_mean_24h"], [8.0, 14.0])}), path)
    data = TrainingData(shards=dict.fromkeys(("train", "validate"), (path,)), label="size", features=FEATURES)
    trainer = Sklearn(
        estimator="sklearn.ensemble:RandomForestClassifier",
        arguments={"n_estimators": 20},
        objective="multiclass",
        seed=7,
    )
    model = fit(trainer, data, TrainContext(workdir=root / "work"))
    model = model.with_metadata(service="shop", fingerprints=fingerprints)
    artifact = ArtifactStore(settings.artifact_location()).put_tree(model.save(root / "work" / "model"))
    with MetadataStore(settings.metadata_url(), clock, Principal("test"), project="shop") as metadata:
        metadata.move_alias(
            "basket_size",
            "candidate",
            metadata.register_model_version("basket_size", None, artifact.digest).version,
            "a test",
        )
    return model


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared(tmp_path_factory.mktemp("several"), "several_shop")


@pytest.fixture(scope="module")
def model(root: Path) -> Model:
    return registered(root)


@pytest.fixture(scope="module")
def address(root: Path, model: Model) -> Iterator[str]:
    with running(application(Served(str(root), clock=NOW, limits=Limits(refresh_s=0.05)))) as url:
        yield url


def asked(address: str, rows: list[dict[str, object]]) -> dict[str, object]:
    answer = httpx.post(
        f"{address}/v1/predict/basket_size", json={"entities": rows, "features": True}, timeout=30.0
    )
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_each_prediction_is_a_list_and_the_outputs_are_named(address: str, model: Model) -> None:
    answer = asked(address, [ROW, {"user_id": 2, "basket": 1.0}])

    given = pa.table({name: answer["features"][name] for name in model.features})
    assert answer["predictions"] == model.predict(given).tolist()
    assert [len(one) for one in answer["predictions"]] == [3, 3]
    assert answer["outputs"] == ["0", "1", "2"]


def test_the_client_gives_lists_and_names(address: str) -> None:
    over_http = asked(address, [ROW])["predictions"]

    with FeatureClient(address) as client:
        answer = client.predict("basket_size", [ROW])

    assert answer.predictions == over_http
    assert answer.outputs == ("0", "1", "2")


def test_the_command_predicts_the_same_and_shows_each_by_its_name(
    root: Path, address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (over_http,) = asked(address, [ROW])["predictions"]

    assert mlcore(root, *WORDS, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["prediction"], told["outputs"]) == (over_http, ["0", "1", "2"])

    assert mlcore(root, *WORDS) == 0
    shown = ", ".join(f"{name} {value:.6g}" for name, value in zip("012", over_http, strict=True))
    assert capsys.readouterr().out.startswith(f"size: {shown}  (basket_size:1 @candidate)")


def test_the_description_of_the_interface_allows_for_lists(address: str) -> None:
    schema = httpx.get(f"{address}/openapi.json", timeout=30.0).json()["components"]["schemas"]["Predictions"]

    kinds = [one["items"]["type"] for one in schema["properties"]["predictions"]["oneOf"]]
    assert kinds == ["number", "array"]
    assert schema["properties"]["outputs"]["items"]["type"] == "string"
