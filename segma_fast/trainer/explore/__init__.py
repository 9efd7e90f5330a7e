"""The page of ``segma-fast explore``: a trained model's latent space in a browser."""
