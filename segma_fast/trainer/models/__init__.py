"""The models, each in its own file, and the interface that they implement (``base.py``)."""

from importlib import import_module
from pkgutil import iter_modules

from segma_fast.trainer.models.autoencoder import AutoEncoder, NetworkConfig
from segma_fast.trainer.models.base import MODELS, Batch, ImageModel, ModelConfig
from segma_fast.trainer.models.segma import SeGMA, SeGMAConfig

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")

__all__ = ["MODELS", "AutoEncoder", "Batch", "ImageModel", "ModelConfig", "NetworkConfig", "SeGMAConfig", "SeGMA"]
