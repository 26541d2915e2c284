"""Certificates of an authority that exists for one test."""

from __future__ import annotations

import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

_NOT_BEFORE = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)


def make_certificates(folder: Path, *names: str) -> Path:
    """Write ``NAME.pem`` and ``NAME.key`` for each name; return the file of their authority."""
    folder.mkdir()
    key = ec.generate_private_key(ec.SECP256R1())
    root = _start("test", "test", key)
    root = root.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    authority = folder / "authority.pem"
    authority.write_bytes(_sign(root, key))
    for name in names:
        own = ec.generate_private_key(ec.SECP256R1())
        leaf = _start(name, "test", own)
        names_of_it = x509.SubjectAlternativeName([x509.DNSName(name)])
        leaf = leaf.add_extension(names_of_it, critical=False)
        (folder / f"{name}.pem").write_bytes(_sign(leaf, key))
        (folder / f"{name}.key").write_bytes(
            own.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
    return authority


def _start(subject: str, issuer: str, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(_name(issuer))
        .serial_number(x509.random_serial_number())
        .not_valid_before(_NOT_BEFORE)
        .not_valid_after(_NOT_BEFORE + datetime.timedelta(days=3))
        .public_key(key.public_key())
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])


def _sign(builder: x509.CertificateBuilder, key: ec.EllipticCurvePrivateKey) -> bytes:
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
