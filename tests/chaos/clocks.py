"""A time of day of its own for the processes of one machine."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.chaos.disks import NotPossibleError

SOURCE = Path(__file__).with_name("clock.c")


class Clock:
    """Runs with the machine's clock until it jumps; no other clock jumps with it.

    The C library's functions are replaced, so that programs that do without it keep their time.
    """

    def __init__(self, folder: Path) -> None:
        """`folder`, which must exist, gets the library and the file that moves the clock."""
        if sys.platform != "linux":
            raise NotPossibleError("LD_PRELOAD and its clocks are Linux's")
        if not shutil.which("cc"):
            raise NotPossibleError("there is no C compiler `cc`")
        library, self._file = folder / "clock.so", folder / "clock"
        made = subprocess.run(
            ["cc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", SOURCE, "-o", library],
            capture_output=True,
            text=True,
            check=False,
        )
        if made.returncode:
            raise NotPossibleError(f"`cc` does not compile {SOURCE.name}: {made.stderr.strip()}")
        self.jump(0)
        self.environment = {"LD_PRELOAD": str(library), "CHAOS_CLOCK": str(self._file)}
        """Of the processes that have this clock."""

    def jump(self, seconds: int) -> None:
        """Sets the clock so many seconds off the machine's."""
        # In place and in one piece: the processes have the file in their memory.
        file = os.open(self._file, os.O_WRONLY | os.O_CREAT)
        try:
            os.pwrite(file, seconds.to_bytes(8, sys.byteorder, signed=True), 0)
        finally:
            os.close(file)
