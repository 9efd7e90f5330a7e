"""``segma-fast train``, and what one does with a trained model."""
