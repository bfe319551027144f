"""What is imported on a system that is not Linux."""

from __future__ import annotations

import subprocess
import sys

from tests.servers import environment

# A Python that has lost what only Linux has, once the libraries, which know about that, are loaded.
PROGRAM = """
import errno, importlib, os, pkgutil, resource, select, signal, socket, sys, tempfile
import click, crcmod.predefined, h11, hiredis, prometheus_client, rich.console, rich.table
import sortedcontainers, trio

GONE = {
    os: ("fdatasync", "memfd_create", "eventfd", "splice", "pipe2", "posix_fadvise", "pidfd_open",
         "sched_getaffinity", "sched_setaffinity", "posix_fallocate"),
    resource: ("RUSAGE_THREAD", "prlimit"),
    signal: ("SIGRTMIN", "SIGRTMAX", "SIGSTKFLT", "SIGPWR", "sigtimedwait", "sigwaitinfo"),
    socket: ("TCP_KEEPIDLE", "TCP_USER_TIMEOUT", "TCP_QUICKACK", "SO_PEERCRED", "SOCK_NONBLOCK",
             "SOCK_CLOEXEC", "MSG_NOSIGNAL", "AF_NETLINK", "SO_DOMAIN", "SO_PROTOCOL"),
    select: [name for name in dir(select) if name.lower().startswith("epoll")],
}
for module, names in GONE.items():
    for name in names:
        if hasattr(module, name):
            delattr(module, name)
sys.platform = "darwin"

import sentrio, node, cluster, sentinel
for package in (node, cluster, sentinel):
    for found in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        importlib.import_module(found.name)

from node.files import SYSTEM_FILES
from node.usage import CpuTimes
with tempfile.TemporaryFile() as file:
    SYSTEM_FILES.fdatasync(file.fileno())
CpuTimes()
"""


def test_every_module_can_be_imported_on_macos() -> None:
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        capture_output=True,
        text=True,
        check=False,
        env=environment(),
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
