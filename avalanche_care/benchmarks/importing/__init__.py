"""Bringing data that somebody else packed into the layout that the benchmarks read.

Nothing here imports torch or Avalanche. Start with
:func:`~avalanche_care.benchmarks.importing.prepare.prepare_dataset`.
"""
