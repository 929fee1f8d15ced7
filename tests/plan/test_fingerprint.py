"""Fingerprints change with the meaning, also that of code, and with nothing else."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from mlflow_core.plan.fingerprint import fingerprint
from mlflow_core.spec import Agg, Entity, FeatureService, FeatureView, OnDemand, ParquetSource, Spec
from mlflow_core.spec.code import code_digest

SOURCE = ParquetSource("flights", path="x.parquet", event_time="at")


def view(**changed: object) -> FeatureView:
    fields = {
        "source": SOURCE,
        "entity": Entity("carrier"),
        "features": ["delay"],
        "columns": {"a": "x", "b": "y"},
    }
    return FeatureView("delays", **{**fields, **changed})


@pytest.mark.parametrize(
    "same",
    [
        view(description="How late.", owner="ops@example.org", tags={"team": "ops"}),
        view(entity=Entity("carrier", owner="someone")),
        view(columns={"b": "y", "a": "x"}),
        FeatureView.from_json(view().canonical_json()),
        view(ttl=None),
    ],
)
def test_what_only_people_read_changes_nothing(same: Spec) -> None:
    assert fingerprint(same) == fingerprint(view())


@pytest.mark.parametrize(
    "other",
    [
        view(features=["delay", "late"]),
        view(ttl="3h"),
        view(columns={"a": "x", "b": "z"}),
        view(entity=Entity("carrier", keys=["code"])),
        view(source=ParquetSource("flights", path="y.parquet", event_time="at")),
        view(features=[Agg("delay", "mean", over="24h")]),
        view(features=[Agg("delay", "mean", over="1d")]),
    ],
)
def test_what_changes_values_or_names_changes_the_fingerprint_of_view_and_service(other: FeatureView) -> None:
    assert fingerprint(other) != fingerprint(view())
    assert fingerprint(FeatureService("s", [other])) != fingerprint(FeatureService("s", [view()]))


def test_windows_of_one_length_but_two_names_differ() -> None:
    day, hours = view(features=[Agg("d", "mean", over="1d")]), view(features=[Agg("d", "mean", over="24h")])
    assert fingerprint(day) != fingerprint(hours)


HELPER = "SCALE = 2\ndef double(x):\n    return x * SCALE\n"
CODE = HELPER + "def speed(x):\n    return {'y': double(x['d'])}\n"


def module(folder: Path, text: str, name: str = "code_under_test") -> ModuleType:
    file = folder / f"{abs(hash(text))}.py"
    file.write_text(text)
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    sys.modules[name] = made
    try:
        spec.loader.exec_module(made)
    finally:
        del sys.modules[name]
    return made


def digest(folder: Path, text: str) -> str:
    return code_digest(module(folder, text).speed)


def test_comments_docstrings_and_layout_are_no_code(tmp_path: Path) -> None:
    commented = CODE.replace("def speed(x):\n", 'def speed(x):\n    """Say it."""\n    # why\n\n').replace(
        "x * SCALE", "(x*SCALE)"
    )
    assert digest(tmp_path, commented) == digest(tmp_path, CODE)


@pytest.mark.parametrize(
    ("old", "new"),
    [("double(x['d'])", "double(x['e'])"), ("x * SCALE", "x + SCALE"), ("SCALE = 2", "SCALE = 3")],
)
def test_code_that_it_uses_from_its_own_package_counts(tmp_path: Path, old: str, new: str) -> None:
    assert digest(tmp_path, CODE.replace(old, new)) != digest(tmp_path, CODE)


def test_on_demand_features_carry_their_code_unless_asked_not_to(tmp_path: Path) -> None:
    def spec(text: str) -> OnDemand:
        return OnDemand("speed", function=module(tmp_path, text).speed, request={"d": float})

    one, other = spec(CODE), spec(CODE.replace("SCALE = 2", "SCALE = 3"))
    assert fingerprint(one) != fingerprint(other)
    assert fingerprint(one, code=False) == fingerprint(other, code=False)


def test_constants_in_containers_and_other_modules_of_the_package_count(tmp_path: Path) -> None:
    text = "NAMES = {'b', 'a'}\nLEVELS = [1, 2]\ndef speed(x):\n    return (NAMES, LEVELS, other.LIMIT, x)\n"

    def used(code: str, limit: int) -> str:
        made = module(tmp_path, code)
        other = ModuleType("code_under_test.other")
        other.__dict__["LIMIT"] = limit
        made.__dict__["other"] = other
        return code_digest(made.speed)

    assert used(text, 1) == used(text.replace("{'b', 'a'}", "{'a', 'b'}"), 1)
    assert used(text, 1) != used(text, 2)
    assert used(text, 1) != used(text.replace("[1, 2]", "[2, 1]"), 1)


USES = """
import datetime
import re
FACTOR = 2
PATTERN = re.compile("a+")
STEP = datetime.timedelta(hours=1)
def twice(x):
    return x * 2
TABLE = {"twice": [twice], "names": {"a", "b", "c", "d"}}
class Rule:
    limit = 3
    @property
    def wide(self):
        return self.limit * 7
    @staticmethod
    def of(x):
        return x + 1
Rule.own = Rule
def speed(x, factor=FACTOR):
    return PATTERN, STEP, TABLE["twice"][0](x), Rule.of(x) * factor
"""


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("FACTOR = 2", "FACTOR = 3"),
        ('"a+"', '"a*"'),
        ("hours=1", "hours=2"),
        ("x * 2", "x * 3"),
        ('"d"}', '"e"}'),
        ("limit = 3", "limit = 4"),
        ("x + 1", "x + 2"),
        ("limit * 7", "limit * 8"),
    ],
)
def test_defaults_patterns_times_classes_and_what_containers_hold_count(
    tmp_path: Path, old: str, new: str
) -> None:
    assert old in USES
    assert digest(tmp_path, USES.replace(old, new)) != digest(tmp_path, USES)


def test_every_process_finds_the_same_digest(tmp_path: Path) -> None:
    (tmp_path / "users.py").write_text(USES)
    program = (
        "import users; from mlflow_core.spec.code import code_digest; print(code_digest(users.speed), end='')"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PATH": "", "PYTHONPATH": f"{tmp_path}:{Path.cwd()}", "PYTHONHASHSEED": str(seed)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in (1, 2, 3)
    }
    assert len(found) == 1, found


def test_code_without_a_source_file_is_known_by_its_bytecode() -> None:
    def typed(text: str) -> str:
        names: dict[str, object] = {"__name__": "typed_in"}
        exec(compile(text, "<typed in>", "exec"), names)
        return code_digest(names["f"])

    assert typed("def f(x):\n    return x + 1\n") == typed("def f(x):\n\n    return x + 1  # one\n")
    assert typed("def f(x):\n    return x + 1\n") != typed("def f(x):\n    return x + 2\n")


def test_what_is_no_python_function_has_no_code_of_its_own() -> None:
    assert code_digest(len) == code_digest(max)
