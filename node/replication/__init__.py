"""Replication: a master's command log, streamed to replicas (Redis's PSYNC, replication.c).

The protocol's logic is in state machines that do no I/O: they are told what has come in and what
time it is, and say what is to be sent and done.
"""
