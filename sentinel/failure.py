"""Who is down: for this sentinel (SDOWN), and, of masters, for as many as the quorum (ODOWN).

An instance is down when an answer to PING that counts has been missing for more than
``down-after-milliseconds``; of a master, the end of that time is met exactly. What is known of it
is asked of the other sentinels at once, and again after short, growing pauses until it is settled,
where Redis asks once a second.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from node.resp import Reply
from sentinel.state import (
    MASTER_DOWN,
    MASTER_REBOOT,
    O_DOWN,
    S_DOWN,
    SCRIPT_KILL_SENT,
    WAIT_START,
    Instance,
    Master,
    Peer,
)

if TYPE_CHECKING:
    from sentinel.machine import Machine

FORGOTTEN_AFTER_ASKS: Final = 5
SHORTEST_ASK_PAUSE: Final = 25
VERDICT_FIELDS: Final = 3


class FailureDetector:
    """Judges, and asks the others."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._settings = machine.settings

    # SDOWN.

    def judge(self, instance: Instance) -> None:
        """Judge whether it is down for this sentinel (``sentinelCheckSubjectivelyDown``)."""
        machine = self._machine
        now = machine.now
        if self._is_down(instance):
            if not instance.has(S_DOWN) and not machine.stalled:
                instance.flags |= S_DOWN
                instance.s_down_since = now
                machine.tell("warning", "+sdown", instance)
                if isinstance(instance, Master):
                    machine.monitoring.ask_replicas(instance)
        elif instance.has(S_DOWN):
            machine.tell("warning", "-sdown", instance)
            instance.flags &= ~(S_DOWN | SCRIPT_KILL_SENT)

    def _is_down(self, instance: Instance) -> bool:
        machine = self._machine
        now = machine.now
        since = instance.link.ping_sent
        if since:
            if now - since > instance.down_after:
                return True
            if isinstance(instance, Master):
                machine.wake_at(since + instance.down_after + 1)
        if not isinstance(instance, Master):
            return False
        patience = instance.down_after + self._settings.info_period * 2
        if instance.role_reported == "slave" and now - instance.role_reported_since > patience:
            return True
        return (
            instance.has(MASTER_REBOOT) and now - instance.reboot_since > instance.reboot_down_after
        )

    # ODOWN.

    def judge_together(self, master: Master) -> None:
        """Judge whether it is down for the quorum (``sentinelCheckObjectivelyDown``)."""
        machine = self._machine
        votes = 0
        if master.has(S_DOWN):
            votes = 1 + sum(peer.has(MASTER_DOWN) for peer in master.peers.values())
        if votes and votes >= master.quorum:
            if not master.has(O_DOWN):
                text = f" #quorum {votes}/{master.quorum}"
                machine.tell("warning", "+odown", master, text)
                master.flags |= O_DOWN
                master.o_down_since = machine.now
        elif master.has(O_DOWN):
            machine.tell("warning", "-odown", master)
            master.flags &= ~O_DOWN

    # Asking the others, for their view and for votes.

    def ask(self, master: Master, *, now_all: bool = False) -> None:
        """Ask the other sentinels, as far as it is time to.

        (``sentinelAskMasterStateToOtherSentinels``.) ``now_all`` asks all of them: for votes.
        """
        machine = self._machine
        now = machine.now
        pause = self._pause(master)
        for peer in master.peers.values():
            age = now - peer.last_master_down_reply
            if age > self._settings.ask_period * FORGOTTEN_AFTER_ASKS:
                peer.flags &= ~MASTER_DOWN
                peer.leader = ""
            if not master.has(S_DOWN) or not peer.link.commands_open:
                continue
            if not now_all:
                if peer.ask_pending and now - peer.asked_at < self._settings.ask_period:
                    continue
                if peer.asked_at and now - peer.asked_at < pause:
                    machine.wake_at(peer.asked_at + pause)
                    continue
            self._ask_one(master, peer)

    def _pause(self, master: Master) -> int:
        """Short at first while something is to be found out, and as Redis's after that."""
        period = self._settings.ask_period
        if master.failover_state == WAIT_START:
            since = master.failover_state_since
        elif master.has(S_DOWN) and not master.has(O_DOWN):
            since = master.s_down_since
        else:
            return period
        return min(period, max(SHORTEST_ASK_PAUSE, (self._machine.now - since) // 2))

    def _ask_one(self, master: Master, peer: Peer) -> None:
        machine = self._machine
        seeks_vote = master.failover_state == WAIT_START
        epoch = master.failover_epoch if seeks_vote else machine.state.current_epoch
        peer.asked_at = machine.now
        peer.ask_pending = True
        machine.request(
            peer,
            [
                machine.command(peer, "SENTINEL"),
                b"is-master-down-by-addr",
                machine.state.show(master.address).encode(),
                b"%d" % master.address.port,
                b"%d" % epoch,
                machine.state.my_id.encode() if seeks_vote else b"*",
            ],
            f"vote {epoch}" if seeks_vote else "ask",
        )

    def hear_verdict(self, peer: Peer, reply: Reply, epoch: int) -> None:
        """What a sentinel has answered; ``epoch`` is the one that its vote was asked for in, or 0.

        Errors are ignored: its last answer is forgotten after some time.
        (``sentinelReceiveIsMasterDownReply``.)
        """
        peer.ask_pending = False
        if not isinstance(reply, list) or len(reply) != VERDICT_FIELDS:
            return
        down, leader, leader_epoch = reply
        if (
            not isinstance(down, int)
            or not isinstance(leader, bytes)
            or not isinstance(leader_epoch, int)
        ):
            return
        machine = self._machine
        peer.last_master_down_reply = machine.now
        if down == 1:
            peer.flags |= MASTER_DOWN
        else:
            peer.flags &= ~MASTER_DOWN
        name = leader.decode("utf-8", "replace")
        if name != "*":
            if peer.leader_epoch != leader_epoch:
                machine.log("notice", f"{peer.name} voted for {name} {leader_epoch}")
            peer.leader = name
            peer.leader_epoch = leader_epoch
        if epoch and (leader_epoch != epoch or name != machine.state.my_id):
            peer.refused_epoch = epoch
