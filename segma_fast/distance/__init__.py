"""The distance: needs torch and nothing of the trainer. Its public names are those of ``segma_fast``."""
