"""``segma-fast train``, and the commands that use a trained model."""
