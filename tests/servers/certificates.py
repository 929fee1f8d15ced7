"""An authority of our own, and certificates by it for a server on the loopback and for its client."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


class Certificates(NamedTuple):
    """Paths of PEM files."""

    ca: str
    cert: str
    key: str
    client_cert: str
    client_key: str


def make_certificates(folder: Path) -> Certificates:
    """Make an authority and two certificates; the server's is for 127.0.0.1 only."""
    authority, authority_key = _certificate("authority")
    server, server_key = _certificate("server", (authority, authority_key))
    client, client_key = _certificate("client", (authority, authority_key))
    files = {
        "ca.pem": _pem(authority),
        "server.pem": _pem(server),
        "server.key": _private(server_key),
        "client.pem": _pem(client),
        "client.key": _private(client_key),
    }
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return Certificates(*(str(folder / name) for name in files))


def _certificate(
    name: str, issuer: tuple[x509.Certificate, ec.EllipticCurvePrivateKey] | None = None
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    by = issuer[0].subject if issuer else subject
    signer = issuer[1] if issuer else key
    now = datetime.now(UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
    )
    return built.sign(signer, hashes.SHA256()), key


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
