"""What modules do while they are imported counts for every function that needs them; what does nothing does not."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from mlflow_core.workflow.code import digest_of_path

Digest = Callable[[Mapping[str, str]], Mapping[str, str]]

STEP = "\n\ndef start(x):\n    return x, N\n"


@pytest.fixture
def digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Digest:
    """Write a project of some files, by module, and take the digests of ``steps:start``."""
    monkeypatch.setattr(sys, "path", list(sys.path))

    def taken(files: Mapping[str, str]) -> Mapping[str, str]:
        root = tmp_path / str(len(list(tmp_path.iterdir())))
        for name, text in files.items():
            file = root.joinpath(*name.split(".")).with_suffix(".py")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        return digest_of_path("steps:start", project=(root,))

    return taken


DONE_BY_A_MODULE = {
    "a library's settings": "import decimal\nN = 0\ndecimal.getcontext().prec = 5\n",
    "a library's settings by another name": "import decimal\nN = 0\nown = decimal.getcontext()\nown.prec = 5\n",
    "a call": "import locale\nN = 0\nlocale.setlocale(5)\n",
    "a call whose result is thrown away": "import numpy as np\nN = 0\n_ = np.seterr(5)\n",
    "a function that sets a global": "N = 0\n\n\ndef boot():\n    global N\n    N = 5\n\n\nboot()\n",
    "such a function in an assignment": "N = 0\n\n\ndef boot():\n    global N\n    N = 5\n\n\nx = boot()\n",
    "a function that calls such a one": (
        "N = 0\n\n\ndef boot():\n    more()\n\n\ndef more():\n    boot\n    global N\n    N = 5\n\n\nx = boot()\n"
    ),
    "a default of a parameter": (
        "N = []\n\n\ndef boot():\n    N.append(5)\n\n\ndef unused(by=boot()):\n    return by\n"
    ),
    "a walrus in a comprehension": "[(N := i) for i in (1, 5)]\n",
    "a walrus in a comprehension that is bound": "last = [[(N := i) for i in (1, 5)]]\n",
    "a block": "import decimal\nN = 0\nif N == 0:\n    for n in (5,):\n        decimal.getcontext().prec = n\n",
    "another name for the same": "N = {}\nM = N\nM['a'] = 5\n",
    "what is inside of another": "N = {}\nM = {'n': N}\nM['n']['a'] = 5\n",
    "a method of another name for the same": "N = {}\nM = N\nM.update(a=5)\n",
    "an augmented attribute": "import decimal\nN = 0\ndecimal.getcontext().prec += 5\n",
    "what is taken away": "import decimal\nN = 0\ndel decimal.getcontext().flags[5]\n",
    "a body of a class": "import decimal\nN = 0\n\n\nclass Unused:\n    decimal.setcontext(5)\n",
    "classes that their base collects": (
        "N = []\n\n\nclass Base:\n    def __init_subclass__(cls):\n        N.append(cls)\n\n\n"
        "class Between(Base):\n    pass\n\n\nclass Below(Between):\n    value = 5\n"
    ),
    "classes that their type collects": (
        "N = []\n\n\nclass Kind(type):\n    def __new__(*of):\n        N.append(type.__new__(*of))\n        return N[-1]\n\n\n"
        "class Below(metaclass=Kind):\n    value = 5\n"
    ),
    "a decorator that collects": (
        "N = []\n\n\ndef collected(function):\n    N.append(function)\n    return function\n\n\n"
        "@collected\ndef one():\n    return 5\n"
    ),
    "a table that is given away": (
        "N = {}\n\n\ndef fill(table, *, by):\n    table['a'] = by\n\n\nx = fill(N, by=5)\n"
    ),
    "a list that is given on": (
        "N = []\n\n\ndef fill(rows, by):\n    more(rows, by)\n\n\ndef more(rows, by):\n    rows += [by]\n\n\n"
        "x = fill(N, by=5)\n"
    ),
    "another name that is added to": "N = []\nM = N\nM += [5]\n",
    "one of two names that is added to": "N = M = []\nM += [5]\n",
    "what is entered": "import decimal\nN = 0\nwith decimal.localcontext(prec=5):\n    M = 1\n",
    "what is asserted": "import locale\nN = 0\nassert locale.setlocale(5)\n",
    "a decorator with arguments that collects": (
        "N = {}\n\n\ndef under(name):\n    def collected(function):\n        N[name] = function\n        return function\n\n"
        "    return collected\n\n\n@under('one')\ndef one():\n    return 5\n"
    ),
}


@pytest.mark.parametrize("text", DONE_BY_A_MODULE.values(), ids=DONE_BY_A_MODULE)
def test_what_a_module_does_while_it_is_imported_counts(digest: Digest, text: str) -> None:
    assert text.count("5") == 1

    assert digest({"steps": text + STEP}) != digest({"steps": text.replace("5", "9") + STEP})


@pytest.mark.parametrize(
    ("files", "other"),
    [
        pytest.param(
            {
                "steps": "import other\nimport t\nfrom t import N",
                "t": "N = 0\n",
                "other": "import t\n\nt.N = 5\n",
            },
            "other",
            id="an import for its effect",
        ),
        pytest.param(
            {"steps": "from t import N", "t": "import more.other\nN = 0\n", "more.other": "print(5)\n"},
            "more.other",
            id="an import by what is imported",
        ),
        pytest.param(
            {"steps": "from pkg.t import N", "pkg.__init__": "print(5)\n", "pkg.t": "N = 0\n"},
            "pkg.__init__",
            id="a package around it",
        ),
        pytest.param(
            {
                "steps": "from t import N, collected\nimport plugins",
                "t": "N = []\n\n\ndef collected(f):\n    N.append(f)\n",
            }
            | {"plugins": "from t import collected\n\n\n@collected\ndef one():\n    return 5\n"},
            "plugins",
            id="a decorator of another module",
        ),
        pytest.param(
            {"steps": "from t import N\nimport plugins", "t": "N = Table()\n"}
            | {"plugins": "from t import N\n\n\n@N.collected\ndef one():\n    return 5\n"},
            "plugins",
            id="a method of another module's object as a decorator",
        ),
        pytest.param(
            {"steps": "N = 0\n\n\ndef x():\n    import other\n\n\nN = x", "other": "print(5)\n"},
            "other",
            id="an import inside a function",
        ),
    ],
)
def test_what_other_modules_do_that_are_imported_counts(
    digest: Digest, files: dict[str, str], other: str
) -> None:
    files = {**files, "steps": files["steps"] + STEP}

    first, second = digest(files), digest({**files, other: files[other].replace("5", "9")})

    told = f"{other.removesuffix('.__init__')}:<import>"
    assert first[told] != second[told]


COLLECTED = "import t\n\n\n@t.collected\ndef one():\n    return 5\n"
UNDER_A_NAME = COLLECTED.replace("t.collected", "t.under('a')")
TABLE_OF_LISTS = "\n\n\ndef under(name):\n    def collected(f):\n        N[name].append(f)\n        return f\n\n    return collected\n"
REGISTRY = (
    "class Registry:\n    held = []\n\n    def __init__(self):\n        self.own = []\n\n    def take(self, f):\n"
    "        self.own.append(f)\n\n    @classmethod\n    def hold(cls, f):\n        cls.held.append(f)\n\n\nN = Registry()\n"
)

REGISTRIES = {
    "a set": ("N = set()\n\n\ndef collected(f):\n    N.add(f)\n    return f\n", COLLECTED),
    "a table that makes lists": (
        f"from collections import defaultdict\n\nN = defaultdict(list){TABLE_OF_LISTS}",
        UNDER_A_NAME,
    ),
    "a table of lists": (f"N = {{'a': []}}{TABLE_OF_LISTS}", UNDER_A_NAME),
    "a list that a function gives": (
        "N = []\n\n\ndef held():\n    return N\n\n\ndef collected(f):\n    held().append(f)\n    return f\n",
        COLLECTED,
    ),
    "an object": (f"{REGISTRY}\n\ndef collected(f):\n    N.take(f)\n    return f\n", COLLECTED),
    "a list of a class": (
        f"{REGISTRY}\n\ndef collected(f):\n    Registry.held.append(f)\n    return f\n",
        COLLECTED,
    ),
    "a class": (f"{REGISTRY}\n\ndef collected(f):\n    Registry.hold(f)\n    return f\n", COLLECTED),
    "a list that a library changes": (
        "import bisect\n\nN = []\n\n\ndef collected(f):\n    bisect.insort(N, f)\n    return f\n",
        COLLECTED,
    ),
    "an attribute of a module": (
        "N = 0\n\n\ndef collected(f):\n    import t\n\n    setattr(t, 'N', f)\n    return f\n",
        COLLECTED,
    ),
    "a list that is imported inside": (
        "N = []\n",
        "def collected(f):\n    from t import N\n\n    N.append(f)\n    return f\n\n\n@collected\ndef one():\n    return 5\n",
    ),
    "a list that is added to inside": (
        "N = []\n",
        "def collected(f):\n    from t import N\n\n    N += [f]\n\n\nx = collected(5)\n",
    ),
    "a list that is imported and added to": ("N = []\n", "from t import N\n\nN += [5]\n"),
    "a list that is imported by a star and added to": ("N = []\n", "from t import *\n\nN += [5]\n"),
    "a list that is given away": (
        "N = []\n\n\ndef put(held, f):\n    held.append(f)\n    return f\n",
        "import t\n\nx = t.put(t.N, 5)\n",
    ),
}


@pytest.mark.parametrize(("held", "plugin"), REGISTRIES.values(), ids=REGISTRIES)
def test_what_a_plugin_puts_into_another_module_counts(digest: Digest, held: str, plugin: str) -> None:
    assert plugin.count("5") == 1
    files = {"steps": f"import plugin\nfrom t import N\n{STEP}", "t": held, "plugin": plugin}

    first, second = digest(files), digest({**files, "plugin": plugin.replace("5", "9")})

    assert first["plugin:<import>"] != second["plugin:<import>"]


DOES_NOTHING = {
    "a comment": "print(1)  # 5\n",
    "a text": "print(1)\n'''5'''\n",
    "an unused constant": "M = 5\n",
    "an unused function": "def unused():\n    print(5)\n",
    "an unused call of a library": "import math\nM = math.sqrt(5)\n",
    "an unused call of the project": "def root(x):\n    y = {}\n    y[x] = x\n    return y\n\n\nM = root(5)\n",
    "an unused table": "M = {}\nM['a'] = 5\nM.update(a=1)\n",
    "an unused set": "M = set()\nM.add(5)\n",
    "an unused sum": "M = 1\nM += 5\n",
    "an unused list that is added to": "M = [1]\nM += [5]\n",
    "an unused sum in a class": "class Unused:\n    total = 1\n    total += 5\n",
    "an unused file": "with open(__file__) as file:\n    M = file.read(5)\n",
    "a check": "M = 5\nassert M > 1 and isinstance(M, int), 'too few'\n",
    "an unused call that reads": (
        "import logging\nimport re\nfrom pathlib import Path\n\nTABLE = {'a': 1}\nHERE = Path(__file__).resolve().parent\n"
        "WORD = re.compile('a')\nLOG = logging.getLogger(__name__)\nNAME = 'a b'\n\n\n"
        "def read(x, **more):\n    more.setdefault('y', x)\n    LOG.info(NAME.split())\n    WORD.match(HERE.joinpath('a').name)\n"
        "    return TABLE.get('a')\n\n\nM = read(5)\n"
    ),
    "an unused call with something of the project": (
        "TABLE = {'a': 1}\n\n\ndef largest(table, n):\n    found = []\n    found.append(n)\n    found += table\n    return found\n\n\n"
        "M = largest(TABLE, 5)\n"
    ),
    "an unused library that may be missing": (
        "try:\n    import numpy\nexcept ImportError:\n    numpy = None\n\n\n"
        "def root(x):\n    return numpy.sqrt(x)\n\n\nM = root(5)\n"
    ),
    "an unused definition": "def unused():\n    return 1\n\n\nunused.note = 5\n",
    "a script": "if __name__ == '__main__':\n    print(5)\n",
    "a script, told the other way": "if '__main__' == __name__:\n    print(5)\n",
    "a checker": "import typing\n\nif typing.TYPE_CHECKING:\n    print(5)\n",
    "a checker by its name": "from typing import TYPE_CHECKING\n\nif TYPE_CHECKING:\n    print(5)\n",
    "a step in a pipeline": (
        "import mlflow_core as ml\nTABLE = {}\n\n\n@ml.step\ndef one(*, top: int = 1) -> int:\n    TABLE[top] = top\n"
        "    return top\n\n\nnightly = ml.Pipeline('nightly', steps=[one(top=5)])\n"
    ),
}


@pytest.mark.parametrize("text", DOES_NOTHING.values(), ids=DOES_NOTHING)
def test_what_does_nothing_to_others_changes_no_digest(digest: Digest, text: str) -> None:
    files = {"steps": f"N = 0\nimport t\n{STEP}", "t": text}
    edited = {**files, "t": text.replace("5", "9")}
    own = {"steps": f"N = 0\n{text}{STEP}"}

    assert digest(files) == digest(edited)
    assert digest(own) == digest({"steps": own["steps"].replace("5", "9")})


def test_a_module_that_only_gives_names_their_values_adds_nothing(digest: Digest) -> None:
    files = {"steps": f"import t\nfrom t import N\n{STEP}", "t": "N = {}\nN['a'] = 1\nM = [n for n in N]\n"}

    assert set(digest(files)) == {"steps:start", "t:N"}
