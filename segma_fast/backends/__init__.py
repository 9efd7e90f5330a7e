"""Implementations of the distance, one a file; ``segma_fast.dispatch`` says which one serves a call."""
