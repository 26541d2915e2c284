"""The rule of all outgoing requests: which proxies are used, and which certificates are trusted.

- They are sent directly. Proxies and credentials of the environment (``HTTP_PROXY``, ``~/.netrc``)
  are not used: a proxy would get the tokens of nodes, and requests to this machine would leave it.
- Certificates are verified with the authorities of the system, and with those in ``CA_FILE``.

The library of Firestore alone makes its own connections.
"""

from __future__ import annotations

import ssl
from functools import lru_cache

from portable_core.errors import SettingsError


@lru_cache(maxsize=4)
def make_tls(ca_file: str) -> ssl.SSLContext:
    """Return the context of outgoing connections; ``ca_file`` may be empty.

    Raises ``SettingsError`` for a file that cannot be read or has no certificate.
    """
    context = ssl.create_default_context()
    if ca_file:
        try:
            context.load_verify_locations(ca_file)
        except OSError as error:  # SSLError is one
            reason = "it has no certificate in PEM" if isinstance(error, ssl.SSLError) else error
            raise SettingsError(
                f"CA_FILE: {ca_file} cannot be read ({reason}). Name a file of certificates in PEM."
            ) from None
    return context
