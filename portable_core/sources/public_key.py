"""Signatures with a private key of the sender: Ed25519, ECDSA on P-256, RSA.

The secret of ``SOURCES`` is the public key here. The package needs its extra ``public-keys``.
Certificates that would have to be fetched from an address in the request are not supported.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import msgspec

from portable_core.errors import Unauthorized
from portable_core.sources.request import SourceRequest
from portable_core.sources.signed_content import (
    SignedColumns,
    SignedContent,
    SignedForm,
    compile_content,
)

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

Algorithm = Literal["ed25519", "ecdsa-p256-sha256", "rsa-sha256"]

#: Returns whether a signature of a message is right.
Verify = Callable[[bytes, bytes], bool]


class PublicKeyColumns(SignedColumns, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The column ``signature.public_key``."""

    algorithm: Algorithm

    def compile(self) -> PublicKeyForm:
        """Return the parsed columns. Raises ``ValueError`` with the column at fault."""
        return PublicKeyForm(self, compile_content(self))


@dataclass(frozen=True, slots=True)
class PublicKeyForm(SignedForm):
    """The parsed columns: a scheme without its key."""

    columns: PublicKeyColumns
    content: SignedContent

    def make(self, secret: str) -> PublicKeyScheme:
        """Return the scheme with this key. Raises ``ValueError`` with the end of a sentence."""
        return PublicKeyScheme(self, make_verify(secret, self.columns.algorithm))

    def make_with_parameter(self, header: str) -> PublicKeyForm:
        """Return the same form with the signature in another header."""
        return msgspec.structs.replace(self.columns, read=f"header:{header}").compile()

    def describe(self) -> str:
        """Return the form in a few words."""
        return self.content.describe(self.columns.algorithm)


@dataclass(frozen=True, slots=True)
class PublicKeyScheme:
    """A form with its key."""

    form: PublicKeyForm
    verify: Verify = field(repr=False)

    @property
    def needs_url(self) -> bool:
        """Whether the sender signs the address."""
        return self.form.needs_url

    def check(self, request: SourceRequest, now_ms: int) -> None:
        """Return if the signature is right. Raises ``Unauthorized``."""
        content = self.form.content
        texts, parts = content.read_signed(request, now_ms)
        signatures = content.decode(texts, None, "a signature")
        message = b"".join(parts)
        if not any(self.verify(signature, message) for signature in signatures):
            raise Unauthorized(f"{content.read}: the signature does not match; check the key")

    def describe(self) -> str:
        """Return the form in a few words, without the secret."""
        return self.form.describe()

    def digest(self, parts: list[bytes]) -> bytes:
        """Raise ``ValueError``: no HMAC can be made with a public key."""
        raise ValueError("a public key is not the key of an HMAC")

    def sign(self, request: SourceRequest, timestamp_s: int, message_id: str) -> dict[str, str]:
        """Raise ``ValueError``: only the sender has the private key."""
        raise ValueError("only the sender has the private key")


def make_verify(text: str, algorithm: Algorithm) -> Verify:
    """Return what verifies signatures with a public key. Raises ``ValueError``."""
    try:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
        from cryptography.hazmat.primitives.hashes import SHA256
    except ImportError:
        raise ValueError("needs a package. Install webhook-sync[public-keys].") from None
    key = _load(text, algorithm)

    def verify(signature: bytes, message: bytes) -> bool:
        try:
            if isinstance(key, ed25519.Ed25519PublicKey):
                key.verify(signature, message)
            elif isinstance(key, ec.EllipticCurvePublicKey):
                key.verify(signature, message, ec.ECDSA(SHA256()))
            else:
                assert isinstance(key, rsa.RSAPublicKey)  # noqa: S101  # _load has checked it
                key.verify(signature, message, padding.PKCS1v15(), SHA256())
        except InvalidSignature:
            return False
        return True

    return verify


def _load(text: str, algorithm: Algorithm) -> PublicKeyTypes:
    """Return a key from PEM, from base64 of DER, or for Ed25519 from hexadecimal digits."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
    from cryptography.hazmat.primitives.serialization import (
        load_der_public_key,
        load_pem_public_key,
    )

    kinds = {
        "ed25519": ed25519.Ed25519PublicKey,
        "ecdsa-p256-sha256": ec.EllipticCurvePublicKey,
        "rsa-sha256": rsa.RSAPublicKey,
    }
    key: PublicKeyTypes
    try:
        if text.startswith("-----BEGIN"):
            key = load_pem_public_key(text.encode())
        elif algorithm == "ed25519" and len(text) == 64:
            key = ed25519.Ed25519PublicKey.from_public_bytes(bytes.fromhex(text))
        else:
            key = load_der_public_key(base64.b64decode(text, validate=True))
    except (ValueError, UnsupportedAlgorithm, binascii.Error):
        raise ValueError(f"needs a public key for {algorithm} in PEM or base64") from None
    on_curve = not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name == "secp256r1"
    if not isinstance(key, kinds[algorithm]) or not on_curve:
        raise ValueError(f"has a key of another kind than {algorithm}")
    return key
