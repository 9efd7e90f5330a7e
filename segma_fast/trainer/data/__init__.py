"""Labelled pictures as uint8 tensors: scikit-learn's digits, data sets of the Hugging Face Hub, local folders."""

from segma_fast.trainer.data.config import UNLABELLED, DataConfig, DataError
from segma_fast.trainer.data.decoding import prepare_picture, read_picture
from segma_fast.trainer.data.loading import ImageData, cache_folder, cached_data, load_data

__all__ = [
    "UNLABELLED",
    "DataConfig",
    "DataError",
    "ImageData",
    "cache_folder",
    "cached_data",
    "load_data",
    "prepare_picture",
    "read_picture",
]
