"""What a part of the server brings when it is installed into an engine.

A component owns a piece of the server (pub/sub, persistence, replication, cluster mode …) and
hands the engine everything that belongs to it: commands, sections of INFO, periodic work, a task of
its own. (Configuration is read before anything is composed, so directives are declared apart:
see :func:`node.config.make_config`.) The engine never knows a component by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from node.command import Group
    from node.engine import Engine
    from node.information import Section
    from node.session import Session


C = TypeVar("C", bound="Component")


class Component:
    """Base of all components; every hook may be left as it is."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def groups(self) -> Sequence[Group]:
        """Groups whose handlers are methods of this component."""
        return ()

    def installed(self) -> None:
        """All components of the engine have been installed, and their commands are there."""

    def sections(self) -> Sequence[Section]:
        """Sections of INFO."""
        return ()

    def tick(self, now_ns: int) -> None:
        """Short periodic work, called ``hz`` times a second; must not take over a millisecond."""

    def rest(self) -> float:
        """For how many seconds that work may wait if nothing happens; 0: not at all.

        What the components of a data node need says :mod:`node.rest`.
        """
        return 0.0

    def reset_statistics(self) -> None:
        """CONFIG RESETSTAT: counters of this component start from zero."""

    def session_closed(self, session: Session) -> None:
        """A client has gone."""

    def session_reset(self, session: Session) -> None:
        """RESET: the client is to be as if it had just connected."""

    async def run(self) -> None:
        """The component's own task, if it has one; cancelled at shutdown."""


def has_periodic_work(component: Component) -> bool:
    """Whether a component does anything when it is its turn to."""
    return type(component).tick is not Component.tick


def find_component(components: Sequence[Component], kind: type[C]) -> C:
    """The first component of a kind, for one that builds on it. Raises LookupError."""
    for component in components:
        if isinstance(component, kind):
            return component
    raise LookupError(kind.__name__)
