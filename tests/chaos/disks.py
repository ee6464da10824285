"""Disks that fill up or are slow, each seen only by the processes of one machine."""

import contextlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

FULL_MB = 256
SLOW_MB = 512
SLOW_WRITES_S = 60
"""How many writes in a second the slow disk takes."""
_CGROUPS = Path("/sys/fs/cgroup/blkio")


class NotPossibleError(Exception):
    """This machine does not allow the fault to be made; the message says why."""


class Disk:
    """A file system of its own over a folder, in a mount namespace of its own.

    Nobody but the processes that are started with `prefix` sees it, and it is gone with `end`.
    """

    def __init__(self, folder: Path, mount: str, *, user: bool) -> None:
        """`mount`: the shell command that mounts it over `"$0"`; `user`: without being root."""
        for tool in ("unshare", "nsenter"):
            if not shutil.which(tool):
                raise NotPossibleError(f"there is no `{tool}`")
        self._folder = folder
        self._holder = subprocess.Popen(
            [
                *("unshare", "-m", *(["-r"] if user else [])),
                *("sh", "-c", f"{mount} && echo ready && exec cat", str(folder)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        if self._holder.stdout.readline() != "ready\n":
            words = self._holder.stderr.read().strip() or "it gave no reason"
            raise NotPossibleError(f"no mount of its own is allowed here ({words})")
        self.prefix = ["nsenter", "-t", str(self._holder.pid), "-m"]
        self.prefix += ["-U", "--preserve-credentials"] if user else []
        # Not `--wd`: nsenter opens that folder outside.
        self.prefix += ["sh", "-c", 'cd "$0" && exec "$@"', str(folder)]

    @property
    def path(self) -> Path:
        """Where this process, which is outside, finds the folder."""
        return Path(f"/proc/{self._holder.pid}/root{self._folder}")

    def end(self) -> None:
        """Takes the disk away; nothing may use it any more."""
        self._holder.stdin.close()
        self._holder.wait(10)


class SmallDisk(Disk):
    """A disk in memory, which can be filled to the last byte."""

    def __init__(self, folder: Path) -> None:
        if sys.platform != "linux":
            raise NotPossibleError("mount namespaces are Linux's")
        mount = f'mount -t tmpfs -o size={FULL_MB}m tmpfs "$0"'
        super().__init__(folder, mount, user=os.geteuid() != 0)

    def fill(self) -> int:
        """Takes all the room that is left; returns how many bytes that is."""
        written = 0
        with contextlib.suppress(OSError), (self.path / "filler").open("wb", buffering=0) as file:
            while True:
                written += file.write(bytes(1 << 16))
        with contextlib.suppress(OSError), (self.path / "filler").open("ab", buffering=0) as file:
            while True:
                written += file.write(b"0")
        return written

    def make_room(self) -> None:
        """Gives it back."""
        (self.path / "filler").unlink()


class SlowDisk(Disk):
    """A disk that takes few writes in a second, each of which is waited for."""

    def __init__(self, folder: Path) -> None:
        if os.geteuid() != 0:
            raise NotPossibleError("only root may mount a loop device and throttle it")
        if not (_CGROUPS / "blkio.throttle.write_iops_device").exists():
            raise NotPossibleError("there is no blkio controller at /sys/fs/cgroup/blkio")
        self._image = folder.parent / "slow.img"
        with self._image.open("wb") as file:
            file.truncate(SLOW_MB << 20)
        made = subprocess.run(["mkfs.ext4", "-q", self._image], capture_output=True, check=False)
        found = subprocess.run(
            ["losetup", "-f", "--show", self._image], capture_output=True, text=True, check=False
        )
        if made.returncode or found.returncode:
            self._image.unlink()
            raise NotPossibleError(f"no loop device can be had ({found.stderr.strip()})")
        self._device = found.stdout.strip()
        self._cgroup = _CGROUPS / f"vertex-sft-{Path(self._device).name}"
        try:
            self._cgroup.mkdir()
            number = Path(self._device).stat().st_rdev
            limit = f"{os.major(number)}:{os.minor(number)} {SLOW_WRITES_S}"
            (self._cgroup / "blkio.throttle.write_iops_device").write_text(limit)
            super().__init__(folder, f'mount -o sync,dirsync {self._device} "$0"', user=False)
        except (OSError, NotPossibleError) as error:
            self._drop()
            raise NotPossibleError(str(error)) from None
        inside = f'echo $$ > {self._cgroup}/cgroup.procs && exec "$@"'
        self.prefix += ["sh", "-c", inside, "sh"]

    def measure(self) -> float:
        """Seconds that a new file of 4 kB takes, seen from the inside."""
        code = "import pathlib\nfor n in range(10): pathlib.Path(f'w{n}').write_bytes(bytes(4096))"
        began = time.monotonic()
        subprocess.run([*self.prefix, sys.executable, "-I", "-S", "-c", code], check=True)
        return (time.monotonic() - began) / 10

    def end(self) -> None:
        super().end()
        self._drop()

    def _drop(self) -> None:
        subprocess.run(["losetup", "-d", self._device], check=False)
        self._image.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self._cgroup.rmdir()
