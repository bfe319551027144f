"""What is refused while the data cannot be made safe on disk (MISCONF), whatever the reason."""

from __future__ import annotations

from node.command import WRITE, Command
from node.resp import Error, Reply
from node.session import Session


def refuse_changes(session: Session, command: Command, text: bytes) -> Reply:
    """Refuse what changes the data, and PING, so that monitoring learns of it; else None.

    What the own master says is executed all the same.
    """
    if session.from_master:
        return None
    flags = command.flags
    if command.name == b"exec":
        flags = session.queue_flags
    if flags & WRITE or command.name == b"ping":
        return Error(text)
    return None
