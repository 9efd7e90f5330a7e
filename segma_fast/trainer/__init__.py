"""The trainer: models, data, the loop, run folders and the commands on them, on top of the distance."""
