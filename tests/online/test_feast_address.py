"""Feast's connection strings of Redis: read as Feast and redis-py read them, and no password in any message."""

from __future__ import annotations

import pickle

import pytest
from feast.infra.online_stores.redis import RedisOnlineStore

from mlflow_core.errors import ConfigError
from mlflow_core.online.redis.address import Address, Tls
from mlflow_core.online.redis.feast_address import parse_connection
from mlflow_core.online.redis.feast_layout import FeastRedisBackend

LOCAL = (("cache", 6379),)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("cache:6379", Address(LOCAL)),
        ("cache:7000,db=3", Address((("cache", 7000),), db=3)),
        ("cache:6379,password=secret,username=me", Address(LOCAL, username="me", password="secret")),
        ('cache:6379,password="123"', Address(LOCAL, password="123")),
        ("cache:6379,password=0123", Address(LOCAL, password="0123")),
        ("cache:6379,password=a=b", Address(LOCAL, password="a=b")),
        ("cache:6379,password=1234", Address(LOCAL, password="1234")),
        ("cache:6379,password=1e5", Address(LOCAL, password="100000.0")),
        ("cache:6379,password=null", Address(LOCAL)),
        ("cache:6379,ssl=false,max_connections=9,socket_keepalive=true", Address(LOCAL)),
        ("cache:6379,ssl=true", Address(LOCAL, tls=Tls())),
        (
            "cache:6379,ssl=true,ssl_ca_certs=/ca,ssl_certfile=/c,ssl_keyfile=/k,ssl_check_hostname=false",
            Address(LOCAL, tls=Tls("/ca", "/c", "/k", check_hostname=False)),
        ),
        ("cache:6379,ssl=true,ssl_cert_reqs=none", Address(LOCAL, tls=Tls(verified=False))),
        ("cache:6379,ssl=true,ssl_cert_reqs=null", Address(LOCAL, tls=Tls(verified=False))),
        ("cache:6379,unix_socket_path=/run/redis.sock", Address((), path="/run/redis.sock")),
    ],
)
def test_a_connection_string_is_read_as_feast_reads_it(text, address):
    assert parse_connection(text).address == address
    nodes, options = RedisOnlineStore._parse_connection_string(text)
    assert address.path or [(node["host"], int(node["port"])) for node in nodes] == list(address.hosts)
    sent = options.get("password")
    assert address.password == (None if sent is None else str(sent))


def test_the_nodes_of_a_cluster_are_named_one_after_the_other():
    text = "a:7000,b:7001,skip_full_coverage_check=true,ssl=true,password=secret"
    expected = Address((("a", 7000), ("b", 7001)), password="secret", tls=Tls(), cluster=True)
    assert parse_connection(text, cluster=True).address == expected


def test_its_timeout_counts_unless_another_is_given():
    assert FeastRedisBackend("cache:6379", "p").timeout_s == 5.0
    assert FeastRedisBackend("cache:6379,socket_timeout=0.5", "p").timeout_s == 0.5
    assert FeastRedisBackend("cache:6379,socket_timeout=0.5", "p", timeout_s=2.0).timeout_s == 2.0


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("db=1,password=secret", "no host is named"),
        ("cache:port,password=secret", "neither a host and port nor an option"),
        ("a:1,b:2,password=secret", "redis_type: redis_cluster"),
        ("cache:6379,password=secret,passwort=secret", 'option "passwort".*"password"'),
        ("cache:6379,password=secret,db=one", "db is no number"),
        ("cache:6379,password=secret,db=-1", "db is no number"),
        ("cache:6379,password=secret,ssl=yes", "ssl is 'yes'.*true or false"),
        ("cache:6379,password=secret,ssl=true,ssl_cert_reqs=optional", "required or none"),
        ("cache:6379,password=secret,ssl=true,ssl_ca_data=x", 'option "ssl_ca_data"'),
        ("cache:6379,password=secret,socket_timeout=soon", "socket_timeout"),
        ("cache:6379,password=secret,socket_timeout=0", "socket_timeout"),
    ],
)
def test_what_cannot_be_read_is_refused_without_the_password(text, told):
    with pytest.raises(ConfigError, match=told) as refused:
        parse_connection(text)
    assert "secret" not in str(refused.value)


def test_a_cluster_has_no_databases():
    with pytest.raises(ConfigError, match="no database 1"):
        parse_connection("a:1,db=1", cluster=True)


def test_a_backend_shows_no_password_and_travels_to_another_process():
    backend = FeastRedisBackend("cache:6379,password=secret", "p", timeout_s=2.0)
    again = pickle.loads(pickle.dumps(backend))
    for one in (backend, again):
        assert repr(one) == "FeastRedisBackend('redis://cache:6379', 'p')"
        assert (one.address.password, one.timeout_s) == ("secret", 2.0)
