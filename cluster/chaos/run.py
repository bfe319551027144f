"""One run: the order of things."""

from __future__ import annotations

import secrets
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Final

import trio

from cluster.chaos.follower import Denied, Follower, Unanswered
from cluster.chaos.history import analyse, find_outages
from cluster.chaos.lookout import Lookout, locate
from cluster.chaos.report import Allowance, Event, Report, list_impossible
from cluster.chaos.schedule import Fault, list_schedule
from cluster.chaos.target import Target
from cluster.chaos.workload import Workload
from cluster.tool.connection import Address, Credentials
from cluster.tool.errors import Failed, Refused, ToolError
from cluster.tool.fleet import Fleet
from cluster.tool.picture import Picture
from node.network import Network

OPERATION_LIMIT: Final = 1.0
PROBE_LIMIT: Final = 0.5
LOOK_LIMIT: Final = 1.0
SURVEY_LIMIT: Final = 3.0
CALM: Final = 2.0
"""Seconds of load before the first fault counts, and after the last one."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What was asked for. ``patience`` is how many seconds the cluster may take to be whole."""

    seed: int
    seconds: float
    limited: bool  # by the seconds, rather than by the number of faults
    rate: float
    clients: int
    wait_replicas: int
    patience: float
    allowance: Allowance
    keep: bool


class Chaos:
    """One run of faults against a target; ``tell`` is told what happens."""

    def __init__(
        self,
        target: Target,
        settings: Settings,
        faults: Sequence[Fault],
        impossible: dict[str, str],
        network: Network,
        credentials: Credentials,
        tell: Callable[[str], None],
    ) -> None:
        self._target = target
        self._settings = settings
        self._faults = faults
        self._impossible = impossible
        self._tell = tell
        limits = (SURVEY_LIMIT, OPERATION_LIMIT, PROBE_LIMIT, LOOK_LIMIT)
        self._fleets = [Fleet(network, target.entries[0], credentials, limit) for limit in limits]
        self._lookout = Lookout(self._fleets[0], target.topology, target.entries, target.sentinels)
        self._events: list[Event] = []
        self._slots: Sequence[int] = ()
        self._start = 0.0

    async def run(self) -> Report:
        """Do it all. Raises ToolError: the cluster was not whole before."""
        try:
            return await self._run()
        finally:
            for fleet in self._fleets:
                fleet.close()
            with trio.CancelScope(shield=True):
                await self._target.close()

    async def _run(self) -> Report:
        settings, target = self._settings, self._target
        try:
            picture = await self._lookout.await_whole(settings.patience)
        except Failed as error:
            raise Refused(f"Before anything was done, {error}") from None
        _, operating, probing, looking = self._fleets
        follower = Follower(operating, picture, LOOK_LIMIT)
        prober = Follower(probing, picture, LOOK_LIMIT)
        watcher = Follower(looking, picture, LOOK_LIMIT)
        if len(follower.tags) < target.topology.shards:
            raise Refused(f"The cluster has {len(follower.tags)} shards with slots only")
        self._slots = follower.slots
        self._start = trio.current_time()
        workload = Workload(
            follower,
            prober,
            secrets.token_hex(4),
            seed=settings.seed,
            clients=settings.clients,
            rate=settings.rate,
            replicas=settings.wait_replicas,
            start=self._start,
        )
        work = trio.CancelScope()
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async with trio.open_nursery() as outer:
                outer.start_soon(self._heed, signals, work, outer.cancel_scope)
                async with trio.open_nursery() as nursery:
                    for one in (follower, prober, watcher):
                        nursery.start_soon(one.follow, self._start)
                    nursery.start_soon(workload.work)
                    with work:
                        await self._inject(picture)
                    broken = await self._settle()
                    await trio.sleep(CALM)
                    seconds = workload.now()
                    nursery.cancel_scope.cancel()
                await follower.refresh(self._start)
                await watcher.refresh(self._start)
                try:
                    await workload.collect()
                    if not settings.keep:
                        await workload.remove()
                except (Denied, Unanswered) as error:
                    raise Failed(f"What is there cannot be read at the end: {error}") from None
                outer.cancel_scope.cancel()
        workload.history.failovers = watcher.failovers
        return Report(
            seed=settings.seed,
            topology=target.topology,
            wait_replicas=settings.wait_replicas,
            impossible=self._impossible,
            seconds=seconds,
            planned=len(self._faults),
            events=self._events,
            failovers=watcher.failovers,
            outages={
                shard: find_outages(probes, 0.0, seconds)
                for shard, probes in enumerate(workload.probes)
            },
            load=workload.load.seconds(),
            findings=analyse(workload.history),
            allowance=settings.allowance,
            broken=broken,
        )

    async def _heed(
        self, signals: AsyncIterator[int], work: trio.CancelScope, everything: trio.CancelScope
    ) -> None:
        """The first signal ends the faults, another one the counting, too."""
        async for number in signals:
            if work.cancel_called:
                everything.cancel()
                raise KeyboardInterrupt
            self._tell(f"{signal.Signals(number).name}: no more faults")
            work.cancel()

    def _now(self) -> float:
        return trio.current_time() - self._start

    async def _settle(self) -> str:
        """Until the cluster is whole; what is wrong, should it not become so."""
        try:
            await self._lookout.await_whole(self._settings.patience)
        except Failed as error:
            return f"at the end, {error}"
        return ""

    async def _inject(self, picture: Picture) -> None:
        """Do one fault after the other, each on a cluster that is whole."""
        late = 0.0
        await trio.sleep(CALM)
        for fault in self._faults:
            await trio.sleep_until(self._start + fault.start + late)
            event = Event(fault)
            try:
                picture = await self._lookout.await_whole(self._settings.patience)
            except Failed as error:
                event.trouble = str(error)
            late = max(late, self._now() - fault.start)
            if self._settings.limited and self._now() + fault.length > self._settings.seconds:
                self._tell(f"The time is up, before fault {fault.number} of {len(self._faults)}")
                return
            self._events.append(event)
            await self._do(event, picture)
            self._tell(str(event))
        if self._settings.limited:
            await trio.sleep_until(self._start + self._settings.seconds)

    async def _do(self, event: Event, picture: Picture) -> None:
        """One fault, from its beginning to its end, whatever happens meanwhile."""
        fault = event.fault
        harmed: list[Address] = []
        try:
            event.begun = self._now()
            for place in fault.places:
                try:
                    who = locate(place, picture, self._slots, self._target.sentinels)
                    await self._target.begin(fault.kind, who.port)
                except (ToolError, ProcessLookupError) as error:
                    event.trouble = f"{place}: {error}"
                else:
                    harmed.append(who)
                    event.who.append(str(who))
            if not harmed:
                event.begun = None
                return
            await trio.sleep(fault.length)
        finally:
            with trio.CancelScope(shield=True):
                for who in harmed:
                    try:
                        await self._target.end(fault.kind, who.port)
                    except (ToolError, OSError) as error:
                        event.trouble = f"could not be ended: {error}"
            if harmed:
                event.ended = self._now()


def announce(faults: Sequence[Fault], impossible: dict[str, str]) -> list[str]:
    """What will be done, and what will not."""
    return [*list_impossible(impossible), *list_schedule(faults)]
