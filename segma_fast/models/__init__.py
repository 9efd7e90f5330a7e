"""Auto-encoders and the SeGMA model."""

from segma_fast.models.autoencoder import AutoEncoder, NetworkConfig
from segma_fast.models.segma import Objective, SeGMA

__all__ = ["AutoEncoder", "NetworkConfig", "Objective", "SeGMA"]
