"""The interfaces of other implementations of the distance, so that code written for them runs with another import.

``segma_fast.compat.cw_torch`` has the names of the package cw-torch 0.4.2, ``segma_fast.compat.cwae`` those of
``metrics/cw.py`` of gmum/cwae-pytorch. ``docs/compat.md`` says what differs.
"""
