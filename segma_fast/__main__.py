"""``python -m segma_fast`` is ``segma-fast``."""

from segma_fast.cli import main

main()
