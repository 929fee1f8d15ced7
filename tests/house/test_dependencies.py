"""The pins: names and versions, nothing else, and they fit what pyproject.toml asks for."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import distributions

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.house.repository import ROOT

PIN = re.compile(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9._]*")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LINES = [
    line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")
]
PINS = {
    canonicalize_name(name): Version(version) for name, _, version in (line.partition("==") for line in LINES)
}
DEBIAN_PYTHON = "3.11.2"  # Debian 12: some packages ask for a later 3.11
# What `make install` installs, and torch, whose version is agreed though only an extra brings it.
PINNED_EXTRAS = ("dev", "docs", "report", "sklearn")


def test_a_constraint_is_a_name_and_a_version_and_never_an_address() -> None:
    assert [line for line in LINES if not PIN.fullmatch(line)] == []


def test_constraints_are_sorted_and_name_each_package_once() -> None:
    assert sorted(LINES, key=str.upper) == LINES
    assert len(PINS) == len(LINES)


def test_every_dependency_of_development_is_pinned_to_a_version_that_the_project_accepts() -> None:
    extras = PROJECT["optional-dependencies"]
    wanted = [Requirement(text) for name in PINNED_EXTRAS for text in extras[name]]
    wanted += [Requirement(text) for text in PROJECT["dependencies"]]
    wanted += [Requirement(text) for text in extras["torch"] if text.startswith("torch")]

    unfit = [
        str(needed)
        for needed in wanted
        if needed.name != PROJECT["name"]
        and not needed.specifier.contains(PINS.get(canonicalize_name(needed.name), Version("0")))
    ]

    assert unfit == []


def test_every_promised_extra_exists() -> None:
    assert {"torch", "redis", "postgres", "kafka", "ops", "docs", "dev"} <= set(
        PROJECT["optional-dependencies"]
    )


def test_everything_installed_accepts_the_oldest_python_that_is_promised() -> None:
    installed = (
        (found.name, found.version, found.metadata.get("Requires-Python")) for found in distributions()
    )

    too_new = [
        f"{name}=={version} wants Python {wanted}"
        for name, version, wanted in installed
        if wanted and canonicalize_name(name) in PINS and not SpecifierSet(wanted).contains(DEBIAN_PYTHON)
    ]

    assert too_new == []
