"""The versions that a node tells its clients, each written down only here."""

from typing import Final

SENTRIO_VERSION: Final = "0.1.0"
"""Our own version, `sentrio_version` in INFO and the version of the installed distribution."""

REDIS_VERSION: Final = "7.2.4"
"""The Redis whose semantics a node follows, `redis_version` in INFO."""
