"""`make demo`, as its reader sees it."""

import os
import re
import subprocess
import sys
from pathlib import Path
from time import monotonic

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(150)]


def test_the_demo_finds_what_it_planted_and_ends_by_itself(tmp_path: Path) -> None:
    started = monotonic()
    environ = {name: value for name, value in os.environ.items() if not name.startswith("RECONCAL_")}
    ran = subprocess.run(
        [sys.executable, "-m", "services.cli", "demo"],
        env=environ | {"XDG_DATA_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert monotonic() - started < 90
    assert ran.stderr == ""
    lines = [line.split() for line in ran.stdout.splitlines()]
    assert ["webhook", "lost", "orphaned_local", "12", "12", "ok"] in lines
    assert ["webhook", "lost", "found_equal", "synced", "4", "4", "ok"] in lines
    assert ["never", "booked", "absent", "orphaned_local", "2", "2", "ok"] in lines
    assert "13 lost webhooks were healed by asking Cal.com, and no mail was sent." in ran.stdout
    assert "Missing at Cal.com" in ran.stdout
    assert "DIFFERS" not in ran.stdout
    mails = re.search(r"(\d+) mails told 3 people of all of them", ran.stdout)
    assert mails is not None, ran.stdout
    assert 3 <= int(mails[1]) <= 20, "not one a record"
    assert "Subject: " in ran.stdout
    assert "http://127.0.0.1:" in ran.stdout
