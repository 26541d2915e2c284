"""Senders that sign with a private key: Ed25519, ECDSA on P-256, RSA."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from portable_core.errors import SettingsError
from portable_core.settings import Settings
from portable_core.sources.decision import Admit, Refuse
from portable_core.sources.request import SourceRequest

ED25519 = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
P256 = ec.derive_private_key(7, ec.SECP256R1())
P384 = ec.derive_private_key(7, ec.SECP384R1())
RSA = rsa.generate_private_key(65537, 2048)
BODY = b'{"a":1}'

SIGN: dict[str, tuple[Any, Any]] = {
    "ed25519": (ED25519, ED25519.sign),
    "ecdsa-p256-sha256": (P256, lambda message: P256.sign(message, ec.ECDSA(SHA256()))),
    "rsa-sha256": (RSA, lambda message: RSA.sign(message, padding.PKCS1v15(), SHA256())),
}


def spell(key: Any, form: str) -> str:
    public = key.public_key()
    if form == "pem":
        return str(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode())
    if form == "hex":
        return str(public.public_bytes(Encoding.Raw, PublicFormat.Raw).hex())
    der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(der).decode()


def configure(tmp_path: Path, algorithm: str, key: str) -> Settings:
    (tmp_path / "key").write_text(key)
    (tmp_path / "sources.toml").write_text(
        f'[s]\nsecrets = ["file:{tmp_path / "key"}"]\n'
        f'signature.public_key = {{ algorithm = "{algorithm}", read = "header:X-Sig", '
        'encodings = ["base64"], signed = "{header:X-Id}.{body}" }\n'
    )
    env = {"SYNC_AUTH": "none", "SOURCES_FILE": str(tmp_path / "sources.toml")}
    return Settings.from_env("slave", env)


def request(signature: bytes, body: bytes = BODY, message_id: str = "m1") -> SourceRequest:
    headers = {"x-sig": base64.b64encode(signature).decode(), "x-id": message_id}
    return SourceRequest(lambda name: [headers[name.lower()]], body)


@pytest.mark.parametrize("algorithm", SIGN)
@pytest.mark.parametrize("form", ["pem", "base64", "hex"])
def test_what_the_private_key_signs_is_admitted(tmp_path: Path, algorithm: str, form: str) -> None:
    if form == "hex" and algorithm != "ed25519":
        pytest.skip("only keys of Ed25519 are raw")
    key, sign = SIGN[algorithm]
    sources = configure(tmp_path, algorithm, spell(key, form)).sources
    signature = sign(b"m1." + BODY)
    assert sources.decide("s", request(signature), 0) == Admit()
    for wrong in (
        request(signature, BODY + b" "),
        request(signature, message_id="m2"),
        request(sign(BODY)),
        request(signature[:-1] + bytes([signature[-1] ^ 1])),
        request(b""),
        request(b"\0" * 64),
    ):
        assert isinstance(sources.decide("s", wrong, 0), Refuse)


@pytest.mark.parametrize(
    ("algorithm", "key", "message"),
    [
        ("ed25519", spell(P256, "pem"), "has a key of another kind than ed25519"),
        ("ecdsa-p256-sha256", spell(P384, "base64"), "has a key of another kind"),
        ("rsa-sha256", spell(ED25519, "base64"), "has a key of another kind"),
        ("rsa-sha256", "hunter2", "needs a public key for rsa-sha256 in PEM or base64"),
        ("ed25519", "zz" * 32, "needs a public key for ed25519"),
        ("ed25519", "-----BEGIN PUBLIC KEY-----\nhunter2\n", "needs a public key for ed25519"),
    ],
)
def test_another_key_is_refused(tmp_path: Path, algorithm: str, key: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message) as refused:
        configure(tmp_path, algorithm, key)
    assert str(refused.value).startswith("SOURCES_FILE: [s] secrets: number 1 ")
    assert "hunter2" not in str(refused.value)
    assert "\n" not in str(refused.value)
