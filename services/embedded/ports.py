"""Free ports, and whether a Kafka broker answers behind one."""

import socket
import struct
from typing import Final

HOST: Final = "127.0.0.1"
_METADATA: Final = 3
_METADATA_VERSION: Final = 2


def free_port() -> int:
    """Give a TCP port of 127.0.0.1 that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def cluster_id(port: int, *, timeout_seconds: float = 1.0) -> str | None:
    """Ask the broker on a port which cluster it belongs to; None while it does not answer or is not yet in service.

    Told apart by this from another program that took the port first.
    """
    no_topics = struct.pack(">hhihi", _METADATA, _METADATA_VERSION, 1, -1, 0)
    try:
        with socket.create_connection((HOST, port), timeout_seconds) as connection:
            connection.sendall(struct.pack(">i", len(no_topics)) + no_topics)
            (size,) = struct.unpack(">i", _exactly(connection, 4))
            return _cluster_id(_exactly(connection, min(size, 65536)))
    except (OSError, struct.error, UnicodeDecodeError):
        return None


def _exactly(connection: socket.socket, size: int) -> bytes:
    got = b""
    while len(got) < size and (more := connection.recv(size - len(got))):
        got += more
    return got


def _cluster_id(answer: bytes) -> str | None:
    """Read a Metadata answer, version 2: correlation id, brokers (id, host, port, rack), cluster id ..."""
    (brokers,) = struct.unpack_from(">i", answer, 4)
    at = 8
    for _ in range(brokers):
        _, at = _string(answer, at + 4)
        _, at = _string(answer, at + 4)
    name, _ = _string(answer, at)
    return name if brokers else None


def _string(answer: bytes, at: int) -> tuple[str | None, int]:
    (size,) = struct.unpack_from(">h", answer, at)
    at += 2
    return (None, at) if size < 0 else (answer[at : at + size].decode(), at + size)
