"""Opening clusters: processes here, jobs of a queue, pods, a gateway, an address; and each way in which that fails."""

from __future__ import annotations

import gc
import os
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.request import urlopen

import pytest
import yaml

from mlflow_core.config.cluster import ClusterSettings
from mlflow_core.engine.cluster.connect import open_cluster
from mlflow_core.engine.cluster.profiles import QUEUES, pod_arguments
from mlflow_core.errors import ConfigError, EngineError
from mlflow_core.feast.cluster import cluster_settings

ROOT = Path(__file__).resolve().parents[2]
# dask-jobqueue's jobs and dask-gateway's client leave their pipes and connections to the collector.
UNCLOSED = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)


@UNCLOSED
def test_jobs_without_a_queue_start_real_workers(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    settings = ClusterSettings(
        profile="jobqueue-local", workers=2, memory="512MiB", options={"local_directory": str(tmp_path)}
    )

    with open_cluster(settings) as client:
        client.wait_for_workers(2, timeout=60)
        limits = {worker["memory_limit"] for worker in client.scheduler_info()["workers"].values()}
        assert client.submit(sum, [1, 2]).result(timeout=60) == 3

    assert limits == {512 << 20}


SUBMIT = """#!/bin/sh
# What sbatch does, on this machine: start the script, and say under which number.
cp "$1" "{folder}/script"
setsid bash "{folder}/script" >"{folder}/log" 2>&1 &
echo "Submitted batch job $!"
"""
CANCEL = '#!/bin/sh\nkill -- "-$1"\n'


@pytest.fixture
def queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the path with a queue of one machine that speaks like SLURM."""
    for name, text in (("sbatch", SUBMIT.format(folder=tmp_path)), ("scancel", CANCEL)):
        command = tmp_path / "bin" / name
        command.parent.mkdir(exist_ok=True)
        command.write_text(text)
        command.chmod(command.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    return tmp_path


@UNCLOSED
def test_a_queue_is_given_a_job_script_with_our_options_and_environment_that_starts_workers(queue):
    options = {
        "queue": "short",
        "account": "flights",
        "walltime": "00:10:00",
        "interface": "lo",
        "local_directory": str(queue),
    }
    settings = ClusterSettings(profile="slurm", workers=1, memory="512MiB", options=options)

    with open_cluster(settings) as client:
        environment = client.submit(os.getenv, "OMP_NUM_THREADS", pure=False).result(timeout=60)

    script = (queue / "script").read_text()
    assert environment == "1"
    assert "#SBATCH -p short" in script
    assert "#SBATCH -A flights" in script
    assert "#SBATCH -t 00:10:00" in script


@pytest.mark.parametrize("profile", [name for name in QUEUES if name != "jobqueue-local"])
def test_a_queue_whose_commands_are_not_here_is_said_at_once(profile, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    settings = ClusterSettings(profile=profile, workers=1, memory="1GiB")

    with (
        pytest.raises(EngineError, match=rf'"{profile}": the command \w+ is not on this machine'),
        open_cluster(settings),
    ):
        pass


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"profile": "slurm", "memory": "1GiB"}, "cluster.workers is not set"),
        ({"profile": "slurm", "workers": 1}, "cluster.memory is not set"),
        (
            {"profile": "slurm", "workers": 1, "options": {"quue": "x"}},
            'no option "quue".*Did you mean "queue"',
        ),
        ({"profile": "kubernetes", "workers": 1}, "cluster.options.image is not set"),
        ({"profile": "kubernetes", "workers": 1, "options": {"imag": "x"}}, 'Did you mean "image"'),
        ({"profile": "gateway", "workers": 1, "threads": 2}, "for the gateway to decide"),
        ({"tls_cert": "cert.pem"}, "cluster.tls_ca and cluster.tls_key not set"),
        ({"tls_ca": "none.pem", "tls_cert": "none.pem", "tls_key": "none.pem"}, "there is no file none.pem"),
        (
            {"workers": 1, "memory": "512MiB", "performance_report": "/nowhere/r.html"},
            "there is no folder /nowhere",
        ),
    ],
)
def test_what_is_wrong_in_the_settings_is_named(settings, told):
    if settings.get("profile") == "kubernetes":
        pytest.importorskip("dask_kubernetes")
    with pytest.raises(ConfigError, match=told), open_cluster(ClusterSettings(**settings)):
        pass


@pytest.mark.parametrize(
    ("profile", "module", "extra"),
    [
        ("pbs", "dask_jobqueue", "jobqueue"),
        ("kubernetes", "dask_kubernetes", "kubernetes"),
        ("gateway", "dask_gateway", "gateway"),
    ],
)
def test_a_profile_without_its_extra_names_the_extra(profile, module, extra, monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)  # Python's own way to say that there is none

    with pytest.raises(ConfigError, match=rf"not installed\. Run: pip install 'mlflow-core\[{extra}\]'"):  # noqa: SIM117
        with open_cluster(ClusterSettings(profile=profile, workers=1, memory="1GiB")):
            pass


TYPES = {"object": dict, "array": list, "string": str, "integer": int, "boolean": bool}


def unfit(value, schema, place):
    """Where a value does not fit a schema of Kubernetes: missing and unknown fields, wrong types."""
    if "type" in schema and not isinstance(value, TYPES[schema["type"]]):
        return [f"{place}: {value!r} is no {schema['type']}"]
    if isinstance(value, list):
        return [one for i, item in enumerate(value) for one in unfit(item, schema["items"], f"{place}.{i}")]
    if not isinstance(value, dict) or "properties" not in schema:
        return []
    wrong = [f"{place}.{name} is missing" for name in schema.get("required", ()) if name not in value]
    for name, item in value.items():
        known = schema["properties"].get(name)
        if known is None:
            wrong.append(f"{place}.{name} is unknown")
        elif item is not None:
            wrong += unfit(item, known, f"{place}.{name}")
    return wrong


def test_the_pods_that_we_describe_are_what_the_operator_takes():
    kubecluster = pytest.importorskip("dask_kubernetes.operator.kubecluster.kubecluster")
    settings = ClusterSettings(
        profile="kubernetes",
        workers=3,
        threads=2,
        memory="2GiB",
        options={"image": "flights:1", "namespace": "ml", "env": {"STAGE": "test"}},
    )
    arguments = pod_arguments(settings, kubecluster.KubeCluster)
    named = {
        name: arguments[name] for name in ("name", "image", "n_workers", "resources", "env", "worker_command")
    }

    spec = kubecluster.make_cluster_spec(**named)

    [file] = Path(kubecluster.__file__).parents[1].glob("deployment/helm/*/crds/daskcluster.yaml")
    [definition] = [one for one in yaml.safe_load_all(file.read_text()) if one]
    schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    assert unfit(spec["spec"], schema["properties"]["spec"], "spec") == []
    worker = spec["spec"]["worker"]
    [container] = worker["spec"]["containers"]
    assert worker["replicas"] == 3
    assert container["image"] == "flights:1"
    assert container["resources"]["limits"] == {"cpu": "2", "memory": str(2 << 30)}
    assert container["args"][:4] == ["dask", "worker", "--nthreads", "2"]
    assert {"name": "STAGE", "value": "test"} in container["env"]
    assert {"name": "OMP_NUM_THREADS", "value": "1"} in container["env"]


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[str]:
    """A Dask Gateway on the loopback, with clusters as processes of this machine and one option for users."""
    pytest.importorskip("dask_gateway_server")
    ports = [free_port() for _ in range(2)]
    config = tmp_path / "gateway.py"
    config.write_text(
        f"""
from dask_gateway_server.options import Integer, Options
c.DaskGateway.backend_class = "dask_gateway_server.backends.local.UnsafeLocalBackend"
c.DaskGateway.authenticator_class = "dask_gateway_server.auth.SimpleAuthenticator"
c.SimpleAuthenticator.password = "open sesame"
c.DaskGateway.address = "127.0.0.1:{ports[1]}"
c.Proxy.address = "127.0.0.1:{ports[0]}"
c.Proxy.tcp_address = "127.0.0.1:{ports[0]}"
c.UnsafeLocalBackend.clusters_directory = "{tmp_path}"
c.Backend.cluster_options = Options(
    Integer("worker_cores", 1, min=1, max=2), handler=lambda options: {{"worker_cores": options.worker_cores}}
)
c.ClusterConfig.scheduler_cmd = ["{sys.executable}", "-m", "distributed.cli.dask_scheduler"]
c.ClusterConfig.worker_cmd = ["{sys.executable}", "-m", "distributed.cli.dask_worker"]
c.ClusterConfig.worker_memory = "512 M"
c.ClusterConfig.scheduler_memory = "512 M"
"""
    )
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
    }
    log = (tmp_path / "gateway.log").open("wb")
    server = subprocess.Popen(
        [sys.executable, "-m", "dask_gateway_server", "-f", str(config)],
        stdout=log,
        stderr=log,
        env=environment,
    )
    try:
        for _ in range(300):
            with (
                suppress(OSError),
                urlopen(f"http://127.0.0.1:{ports[0]}/api/health"),
            ):  # the proxy is there before
                break
            assert server.poll() is None, (tmp_path / "gateway.log").read_text()
            time.sleep(0.1)
        yield f"http://127.0.0.1:{ports[0]}"
    finally:
        server.terminate()
        server.wait(timeout=30)
        gc.collect()  # clients that were refused are closed while their complaints are ignored
        log.close()


@pytest.mark.filterwarnings(
    "ignore::ResourceWarning"
)  # the gateway's client leaves its connections to the collector
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_gateway_starts_a_cluster_with_the_options_that_it_offers(gateway):
    options = {"address": gateway, "auth": "basic", "username": "ada", "password": "open sesame"}

    with open_cluster(
        ClusterSettings(profile="gateway", workers=1, options=options | {"worker_cores": 2})
    ) as client:
        assert client.submit(sum, [1, 2]).result(timeout=60) == 3
        assert set(client.nthreads().values()) == {2}

    with (
        pytest.raises(ConfigError, match=r'no option "worker_core".*Did you mean "worker_cores"'),
        open_cluster(ClusterSettings(profile="gateway", workers=1, options=options | {"worker_core": 2})),
    ):
        pass
    with (
        pytest.raises(EngineError, match='"gateway": cannot be started'),
        open_cluster(ClusterSettings(profile="gateway", workers=1, options=options | {"password": "wrong"})),
    ):
        pass


def test_who_listens_and_is_silent_is_given_up():
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"tcp://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(EngineError, match=r"no Dask scheduler answers at .*: silent for 20 s"):  # noqa: SIM117
            with open_cluster(ClusterSettings(address=address)):
                pass


def test_a_cluster_under_tls_takes_only_who_has_its_certificates(tmp_path):
    pytest.importorskip("cryptography")
    from distributed import LocalCluster, Security

    made = Security.temporary()
    files = {"tls_ca": made.tls_ca_file, "tls_cert": made.tls_client_cert, "tls_key": made.tls_client_key}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with LocalCluster(
        n_workers=1,
        processes=False,
        protocol="tls://",
        security=made,
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
    ) as cluster:
        address = cluster.scheduler_address
        settings = ClusterSettings(address=address, **{name: str(tmp_path / name) for name in files})
        with open_cluster(settings) as client:
            assert client.submit(sum, [1, 2]).result(timeout=60) == 3
        with (
            pytest.raises(EngineError, match="no Dask scheduler answers at tls"),
            open_cluster(ClusterSettings(address=address)),
        ):
            pass


def test_a_performance_report_is_written_when_it_is_asked_for(tmp_path):
    pytest.importorskip("bokeh")
    report = tmp_path / "report.html"

    with open_cluster(ClusterSettings(workers=1, memory="512MiB", performance_report=str(report))) as client:
        client.submit(sum, [1, 2]).result()

    assert "Dask Performance Report" in report.read_text()


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("slrum", 'Did you mean "slurm"'),
        ({"profle": "slurm"}, 'cluster.profle: no such key. Did you mean "profile"'),
        ({"profile": "slurm", "workers": 0}, "cluster.workers"),
        ("tcp://", "address"),
    ],
)
def test_what_feast_s_file_says_wrongly_is_named(said, told):
    with pytest.raises(ConfigError, match=told):
        cluster_settings(said)


def test_feast_s_file_takes_the_names_and_the_keys_of_our_own(tmp_path, monkeypatch):
    monkeypatch.setenv("GATEWAY_PASSWORD", "open sesame")
    said = {"profile": "gateway", "workers": 2, "options": {"password": "${env:GATEWAY_PASSWORD}"}}

    settings = cluster_settings(said, base=str(tmp_path))

    assert settings.options["password"].reveal() == "open sesame"
    assert "sesame" not in repr(settings)
    assert cluster_settings("tcp://10.0.0.5:8786").address == "tcp://10.0.0.5:8786"
    assert cluster_settings("slurm").profile == "slurm"
