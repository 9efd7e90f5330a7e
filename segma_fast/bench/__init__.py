"""The contenders, timing and result format of benchmarks, used by ``segma-fast bench`` and ``benchmarks/``."""
