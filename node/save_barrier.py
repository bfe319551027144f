"""What a process has promised by a message has to be on disk before the message leaves."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

Message = TypeVar("Message")


class SaveBarrier(Generic[Message]):
    """Lets messages through to ``post`` in their order, each when what it tells of is saved.

    Saves are numbered, and end in the order of their numbers.
    """

    def __init__(self, post: Callable[[Message], None]) -> None:
        self._post = post
        self._held: deque[tuple[int, Message]] = deque()
        self._unsaved = 0

    def close(self, number: int) -> None:
        """Let nothing through any more before :meth:`open` is called with that number."""
        self._unsaved = number

    def open(self, number: int) -> None:
        """Save ``number``, and all before it, are on disk."""
        held = self._held
        while held and held[0][0] <= number:
            self._post(held.popleft()[1])
        if self._unsaved <= number:
            self._unsaved = 0

    def send(self, message: Message) -> None:
        """Let a message through, at once or when it may."""
        if self._unsaved:
            self._held.append((self._unsaved, message))
        else:
            self._post(message)

    def drop(self, unwanted: Callable[[Message], bool]) -> None:
        """Forget messages that wait."""
        if self._held:
            self._held = deque(held for held in self._held if not unwanted(held[1]))
