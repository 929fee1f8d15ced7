"""URLs of Redis: every form, and no password in any message."""

from __future__ import annotations

import pickle

import pytest

from mlflow_core.errors import ConfigError, StoreError
from mlflow_core.online.redis import refusals
from mlflow_core.online.redis.address import Address, Tls, parse_url
from mlflow_core.online.redis.backend import RedisBackend
from mlflow_core.online.redis.keys import Names


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://cache", Address((("cache", 6379),))),
        ("redis://cache:7000/3", Address((("cache", 7000),), db=3)),
        ("redis://cache?db=4", Address((("cache", 6379),), db=4)),
        ("redis://:p%40ss@[::1]:7000", Address((("::1", 7000),), password="p@ss")),
        ("redis://me:p/a#ss@cache", Address((("cache", 6379),), username="me", password="p/a#ss")),
        ("rediss://cache", Address((("cache", 6379),), tls=Tls())),
        (
            "rediss://cache?ssl_ca_certs=/ca.pem&ssl_certfile=/a.pem&ssl_keyfile=/a.key&ssl_check_hostname=false",
            Address((("cache", 6379),), tls=Tls("/ca.pem", "/a.pem", "/a.key", check_hostname=False)),
        ),
        ("rediss://cache?ssl_cert_reqs=none", Address((("cache", 6379),), tls=Tls(verified=False))),
        ("unix:///run/redis.sock?db=2", Address((), path="/run/redis.sock", db=2)),
        ("unix://:secret@/run/a%20b", Address((), path="/run/a b", password="secret")),
        ("redis+cluster://a:1,b", Address((("a", 1), ("b", 6379)), cluster=True)),
        (
            "rediss+cluster://u:p@a:1",
            Address((("a", 1),), username="u", password="p", tls=Tls(), cluster=True),
        ),
    ],
)
def test_a_url_is_read_as_it_is_meant(url, address):
    assert parse_url(url) == address
    assert parse_url(address.shown).hosts == address.hosts


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("secret", "no Redis URL"),
        ("http://:secret@cache", '"http" is no scheme'),
        ("redis://:secret@cache/x", '"x" is no number of a database'),
        ("redis://:secret@cache:port", "no host and port"),
        ("redis://:secret@[cache", "no host and port"),
        ("redis://:secret@", "no host is named"),
        ("redis://:sec?ret@cache", "an @ behind its"),
        ("redis://cache?password=secret", '"password" is no option here'),
        ("redis://cache?ssl_ca_certs=/ca", '"ssl_ca_certs" is no option here'),
        ("rediss://:secret@cache?ssl_ca_cert=/ca", 'Did you mean "ssl_ca_certs"'),
        ("rediss://:secret@cache?ssl_cert_reqs=maybe", "Expected required or none"),
        ("rediss://:secret@cache?ssl_check_hostname=maybe", "Expected true or false"),
        ("redis://:secret@a,b", r"say redis\+cluster"),
        ("redis+cluster://:secret@a/1", "no database 1"),
    ],
)
def test_a_wrong_url_is_explained_without_its_password(url, told):
    with pytest.raises(ConfigError, match=told) as refused:
        parse_url(url)
    assert "secret" not in str(refused.value)
    assert "ret@" not in str(refused.value)


def test_a_certificate_that_is_not_there_is_named():
    with pytest.raises(StoreError, match=r"/nowhere/ca\.pem: a certificate or key cannot be loaded"):
        Tls("/nowhere/ca.pem").context()


def test_nothing_that_is_printed_has_the_password():
    backend = RedisBackend("redis://me:secret@cache:1", "p")
    assert "secret" not in repr(backend) + repr(backend.address)
    assert backend.address.shown in repr(backend)
    assert "secret" not in str(refusals.refused(ValueError("ERR AUTH secret is wrong"), backend.address))
    assert pickle.loads(pickle.dumps(backend)).address == backend.address


def test_a_missing_package_is_named_with_what_installs_it(monkeypatch):
    monkeypatch.setattr(refusals, "find_spec", lambda package: None)
    with pytest.raises(ConfigError, match=r"pip install mlflow-core\[redis\]"):
        RedisBackend("redis://cache", "p")


def test_no_two_projects_or_entities_share_a_name():
    entities = [
        (),
        ("",),
        ("", ""),
        ("a",),
        ("a,b",),
        ("a", "b"),
        ("a:b",),
        ("a%3Ab",),
        ("%",),
        ("*",),
        ("é",),
    ]
    projects = ["p", "p:a", "p%3Aa", "", "*", "é"]
    prefixes = [Names(project).prefix(entity) for project in projects for entity in entities]
    assert len(set(prefixes)) == len(prefixes)
    # No prefix begins another one, and patterns take every character for itself.
    assert not any(a != b and b.startswith(a) for a in prefixes for b in prefixes)
    assert not any(set(prefix) & set(b"*?[]\\^") for prefix in prefixes)
    assert not {Names(project).project for project in projects} & set(prefixes)
