"""A disk of a few megabytes that can be full: a tmpfs of its own, mounted where that is permitted."""

import os
import shutil
import subprocess
from pathlib import Path
from tempfile import mkdtemp
from typing import Final, Self

NO_MOUNT: Final = "no small disk: mounting a tmpfs is not permitted here"
_PIECE: Final = bytes(64 * 1024)
_MOUNT_SECONDS: Final = 10


class NoMountError(Exception):
    """Nothing can be mounted here: one line that says why."""


class SmallDisk:
    """An empty directory with so much room and no more. `owner` is the id of who may write there besides root."""

    def __init__(self, size_bytes: int, *, owner: int = 0) -> None:
        """Mount it. Raises NoMountError."""
        self.path = Path(mkdtemp(prefix="reconcal-disk-"))
        options = f"size={size_bytes},uid={owner},mode=0700"
        mount = shutil.which("mount")
        said = "there is no mount" if mount is None else _run(mount, "-t", "tmpfs", "-o", options, "tmpfs", self.path)
        if said:
            self.path.rmdir()
            raise NoMountError(f"{NO_MOUNT} ({said})")

    @property
    def free_bytes(self) -> int:
        """Give the room that is left."""
        return shutil.disk_usage(self.path).free

    def fill(self) -> None:
        """Take all the room that is left."""
        with (self.path / "filler").open("ab", buffering=0) as filler:
            for piece in (_PIECE, bytes(1)):
                try:
                    while filler.write(piece):
                        pass
                except OSError:
                    continue

    def clear(self) -> None:
        """Give back what `fill` took."""
        (self.path / "filler").unlink(missing_ok=True)

    def close(self) -> None:
        """Unmount it, even while somebody looks at it."""
        _run("umount", "-l", self.path)
        self.path.rmdir()

    def __enter__(self) -> Self:
        """Give it."""
        return self

    def __exit__(self, *_: object) -> None:
        """Unmount it."""
        self.close()


def _run(*command: str | os.PathLike[str]) -> str:
    """Run it; gives what it complained of."""
    done = subprocess.run(command, capture_output=True, check=False, text=True, timeout=_MOUNT_SECONDS)
    if not done.returncode:
        return ""
    return next(iter(done.stderr.splitlines()), f"exit code {done.returncode}")
