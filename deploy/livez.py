"""The image's health check: one of the services answers /livez on its port. Exit code 0 or 1."""

import os
import sys
import urllib.request
from http import HTTPStatus

PORTS = {"INGEST": "8080", "RECONCILER": "8081", "NOTIFIER": "8082", "VERIFIER": "8083", "CONSOLE": "8090"}


def alive(port: str) -> bool:
    """Ask one port."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/livez", timeout=2) as answer:
            return bool(answer.status == HTTPStatus.OK)
    except OSError:
        return False


if __name__ == "__main__":
    sys.exit(not any(alive(os.environ.get(f"RECONCAL_{name}_PORT", port)) for name, port in PORTS.items()))
