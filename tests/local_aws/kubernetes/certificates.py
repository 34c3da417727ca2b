"""A certificate authority of its own for each control plane, and its certificates. Valid for a year, kept nowhere
else."""

from __future__ import annotations

import datetime
import ipaddress
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LIFETIME = datetime.timedelta(days=365)


class Authority:
    """Writes `ca.crt` into the directory, and a `.crt` and `.key` for each certificate that it issues there."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name("local-kubernetes")
        builder = _builder(self._name, self._name, self._key.public_key())
        signs = x509.KeyUsage(
            key_cert_sign=True, crl_sign=True, digital_signature=True, content_commitment=False,
            key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False,
            decipher_only=False,
        )  # fmt: skip
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        certificate = builder.add_extension(signs, critical=True).sign(self._key, hashes.SHA256())
        _write(directory / "ca.crt", certificate.public_bytes(serialization.Encoding.PEM))

    def server(self, name: str) -> None:
        """Issues a certificate for a server on the loopback address."""
        loopback = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        names = x509.SubjectAlternativeName([loopback, x509.DNSName("localhost"), x509.DNSName("kubernetes.default.svc")])
        self._issue(name, _name(name), ExtendedKeyUsageOID.SERVER_AUTH, names)

    def client(self, name: str, user: str, group: str) -> None:
        """Issues a certificate for a client that the API server knows as this user of this group."""
        self._issue(name, _name(user, group), ExtendedKeyUsageOID.CLIENT_AUTH)

    def _issue(self, name: str, subject: x509.Name, usage: Any, *extensions):
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(subject, self._name, key.public_key())
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        for extension in (x509.ExtendedKeyUsage([usage]), *extensions):
            builder = builder.add_extension(extension, critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        _write(self.directory / f"{name}.crt", certificate.public_bytes(serialization.Encoding.PEM))
        write_key(self.directory / f"{name}.key", key)


def write_key(path: Path, key: Any) -> None:
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    _write(path, pem)


def _name(user: str, group: str | None = None):
    parts = [x509.NameAttribute(NameOID.COMMON_NAME, user)]
    return x509.Name(parts + ([x509.NameAttribute(NameOID.ORGANIZATION_NAME, group)] if group else []))


def _builder(subject: x509.Name, issuer: x509.Name, public_key: Any):
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(public_key)
    builder = builder.serial_number(x509.random_serial_number())
    return builder.not_valid_before(now - datetime.timedelta(minutes=5)).not_valid_after(now + LIFETIME)


def _write(path: Path, data: bytes):
    path.write_bytes(data)
    path.chmod(0o600)
