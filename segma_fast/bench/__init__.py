"""What is timed, by whom, how, and in which form it is written down; of ``segma-fast bench`` and ``benchmarks/``."""
