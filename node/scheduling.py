"""How the kernel shares the cores between this server and others.

A machine that runs masters and replicas side by side (a cluster on one host, or in the containers
of one) may have fewer cores than servers. A replica that is woken for a piece of its master's
stream would then push aside, at once, a master or a client that is at work: the kernel favours who
has slept. For the stream nobody waits, so a replica asks for the policy that is meant for such work
(``SCHED_BATCH``, see sched(7)): it gets as much time as before, but does not interrupt others.
"""

from __future__ import annotations

import os
import sys


class Scheduling:
    """The policy of the calling thread, which is the one that executes requests.

    Threads and children that begin meanwhile inherit it, and keep it. A policy that the operator
    has chosen (chrt) is left alone, and so is one that may not be changed.
    """

    __slots__ = ("gives_way", "_possible")

    def __init__(self) -> None:
        self.gives_way = False
        self._possible = True

    def give_way(self, on: bool) -> None:
        """Interrupt nobody from now on, or be an ordinary process again."""
        if on != self.gives_way and self._possible:
            self._possible = _change_policy(on)
            self.gives_way = on and self._possible


if sys.platform == "linux":

    def _change_policy(batch: bool) -> bool:
        """From the ordinary policy to that for batches, or back; False if it is not changed."""
        before, after = os.SCHED_OTHER, os.SCHED_BATCH
        if not batch:
            before, after = after, before
        try:
            if os.sched_getscheduler(0) != before:
                return False
            os.sched_setscheduler(0, after, os.sched_param(0))
        except OSError:  # a container may forbid it
            return False
        return True

else:

    def _change_policy(batch: bool) -> bool:
        return False
