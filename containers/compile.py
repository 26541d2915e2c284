"""Compile every module that a node can load into ``PYTHONPYCACHEPREFIX``.

A container's root file system is read-only, and Python's image contains no compiled modules: a node
would compile those of the standard library at each start (about 1.5 s on one core). The compiled
files are never checked against their sources: both are fixed in the image.
"""

from __future__ import annotations

import importlib
import pkgutil
import py_compile
import sys

#: Modules that the server and libraries load at run time, and the project never names.
ALSO = ("encodings.idna", "encodings.ascii")


def load_all(package: str) -> None:
    """Import ``package`` and all its modules."""
    path = importlib.import_module(package).__path__
    for module in pkgutil.walk_packages(path, f"{package}."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)


def main() -> None:
    for name in ALSO:
        importlib.import_module(name)
    load_all("portable_core")
    count = 0
    for module in list(sys.modules.values()):
        spec = getattr(module, "__spec__", None)
        if spec is None or not spec.has_location or not spec.cached:
            continue
        py_compile.compile(
            spec.origin,
            spec.cached,
            doraise=True,
            invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
        )
        count += 1
    print(f"compiled {count} modules into {sys.pycache_prefix}")


if __name__ == "__main__":
    main()
