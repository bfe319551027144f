"""Asks the server of this container over HTTP: `probe.py ready`, `probe.py role`."""

import os
import re
import socket
import sys


def ask(path: str) -> tuple[bool, str]:
    """Whether the answer was a good one, and its text. Raises OSError."""
    address = ("127.0.0.1", int(os.environ.get("METRICS_PORT", "9121")))
    answer = b""
    with socket.create_connection(address, 2.0) as connection:
        connection.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
        while part := connection.recv(4096):
            answer += part
    head, _, body = answer.partition(b"\r\n\r\n")
    return head.split(b" ")[1:2] == [b"200"], body.decode(errors="replace")


def main(what: str) -> int:
    """0 if the server is ready, or has told its role."""
    try:
        good, text = ask("/metrics" if what == "role" else "/readyz")
    except OSError as error:
        good, text = False, f"not ready: {error}\n"
    if what == "role":
        found = re.search(r'redis_instance_info\{.*\brole="(\w+)"', text)
        good, text = found is not None, f"{found[1]}\n" if found is not None else ""
    sys.stdout.write(text)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
