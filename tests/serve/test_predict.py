"""Predictions: the same from the command, over HTTP and of the model itself; and models whose features are gone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pyarrow as pa
import pytest

from mlflow_core.serve.app import Limits
from mlflow_core.serve.run import Served, application
from mlflow_core.train.models.model import Model
from tests.serve.shop import DECLARATIONS, NOW, ROW, mlcore, prepared, running, train_model, until


@pytest.fixture(scope="module")
def modelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a registered model."""
    root = prepared(tmp_path_factory.mktemp("modelled"), "modelled_shop")
    train_model(root)
    return root


@pytest.fixture(scope="module")
def model(modelled: Path) -> Model:
    return Model.load(modelled / "work" / "model")


@pytest.fixture(scope="module")
def address(modelled: Path) -> Iterator[str]:
    with running(application(Served(str(modelled), clock=NOW, limits=Limits(refresh_s=0.05)))) as url:
        yield url


def predict(url: str, model: str, **body: object) -> httpx.Response:
    return httpx.post(f"{url}/v1/predict/{model}", json={"entities": [ROW], **body}, timeout=30.0)


def test_http_predicts_what_the_model_says_of_the_features_it_shows(address: str, model: Model) -> None:
    rows = [ROW, {"user_id": 2, "basket": 1.0}, {"user_id": 99, "basket": 1.0}]

    answer = predict(address, "returns", entities=rows, features=True).json()

    given = pa.table({name: answer["features"][name] for name in model.features})
    assert answer["predictions"] == model.predict(given).tolist()
    assert len(set(answer["predictions"])) > 1
    assert answer["model"] == {"name": "returns", "version": 1, "alias": "candidate"}
    assert answer["statuses"]["orders_24h"][2] == "NOT_FOUND"


def test_the_command_predicts_the_same(
    modelled: Path, address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    over_http = predict(address, "returns@candidate").json()["predictions"][0]
    words = ("predict", "returns:1", "--at", NOW, "user_id=1", "basket=30")

    assert mlcore(modelled, *words, "--json") == 0
    assert json.loads(capsys.readouterr().out)["prediction"] == over_http
    assert mlcore(modelled, *words, "--features") == 0
    shown = capsys.readouterr().out
    assert "returns:1 @candidate" in shown
    assert "amount_mean_24h" in shown


def test_features_come_only_where_asked_for(address: str) -> None:
    assert set(predict(address, "returns").json()) == {"predictions", "model"}


@pytest.mark.parametrize(
    ("reference", "name", "nearest"),
    [
        ("retruns", "retruns", ["returns"]),
        ("returns@champion", "returns@champion", ["returns"]),
        ("returns:7", "returns:7", ["returns"]),
        ("returns:x", "returns:x", []),
    ],
)
def test_a_model_that_does_not_exist_is_404_with_the_nearest(
    address: str, reference: str, name: str, nearest: list[str]
) -> None:
    refused = predict(address, reference)

    assert refused.status_code == 404, refused.text
    assert refused.json()["name"] == name
    assert refused.json()["nearest"] == nearest


def test_a_wrong_row_is_refused_as_for_features(address: str) -> None:
    refused = predict(address, "returns", entities=[{"user_id": 1}])

    assert (refused.status_code, refused.json()["name"]) == (422, "basket")


def test_a_model_whose_features_are_gone_or_mean_something_else_is_refused_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = prepared(tmp_path, "outdated_shop")
    train_model(root)
    file = root / "outdated_shop" / "shop.py"
    limits = Limits(refresh_s=0.05)
    changed = DECLARATIONS.replace(
        '["sum", "mean"], over="24h"', '["sum", "mean"], over="24h", where="amount > 6"'
    )
    gone = DECLARATIONS.replace("[spending, profile, against_usual], desc", "[profile], desc")

    with running(application(Served(str(root), clock=NOW, limits=limits))) as url:
        assert predict(url, "returns").status_code == 200
        file.write_text(changed)
        assert mlcore(root, "apply") == 0
        until(lambda: predict(url, "returns").status_code == 409)
        said = predict(url, "returns").json()["error"]
    file.write_text(gone)
    assert mlcore(root, "--yes", "apply") == 0
    capsys.readouterr()
    code = mlcore(root, "predict", "returns", "--at", NOW, "user_id=1", "basket=30")

    assert "view spending is computed otherwise" in said
    assert code == 1
    told = capsys.readouterr().err
    assert 'feature "amount_mean_24h" is gone' in told
    assert "on_demand against_usual is gone" in told
    assert "Traceback" not in told


def test_an_alias_that_moves_is_followed(modelled: Path, address: str) -> None:
    assert predict(address, "returns").json()["model"]["version"] == 1

    train_model(modelled, features=("amount_sum_24h", "orders_24h"))

    until(lambda: predict(address, "returns").json()["model"]["version"] == 2)
    assert predict(address, "returns:1").json()["model"]["version"] == 1
