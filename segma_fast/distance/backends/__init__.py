"""The implementations of the distance, each in a file of its own that registers it (``registry.py``)."""

from importlib import import_module
from pkgutil import iter_modules

from segma_fast.distance.backends.registry import Backend, registered

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")

BACKENDS: tuple[Backend, ...] = registered()
"""Best first."""
