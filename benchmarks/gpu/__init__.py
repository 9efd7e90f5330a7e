"""``make gpu`` and its stages, and ``make gpu-pack``. Imports nothing that a bare machine lacks until it is needed."""
