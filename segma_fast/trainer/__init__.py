"""The trainer, built on top of the distance: models, data, training loop, run folders and commands."""
