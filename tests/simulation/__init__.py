"""Whole servers in one process, in virtual time, with faults that a seed decides.

A *world* is a set of servers with their network, disks, clients and faults. It runs from a seed:
the same seed gives the same run, to the last byte (:mod:`.worlds`). What must always hold is
checked after each step; a run in which it does not hold ends with :class:`.trace.Broken`.

- :mod:`.timeline`: virtual time and what happens in it;
- :mod:`.trace`: what has happened;
- :mod:`.schedule`: faults at times that the seed decides;
- :mod:`.network`: connections between hosts, and what may go wrong with them;
- :mod:`.disk`: files, and what is left of them when the power fails.

``python -m tests.simulation`` runs many seeds (:mod:`.__main__`).
"""
