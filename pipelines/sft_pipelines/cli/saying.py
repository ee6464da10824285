"""Errors of calls and of files, in words for the person at the terminal."""

from sft_components.errors import UserError

NO_ROOM_BYTES = 1 << 20
"""A disk with less is called full: what did not fit may have left that much."""


def explained(error: BaseException) -> str:
    """What the service says, with cause and cure where it is a known failure.

    Of a local Vertex AI that has ended in the meantime: that, and how it is started again.
    """
    from sft_components.vertex.failures import explain, said

    return _ended_here(error) or explain(said(error))


def of_file(error: OSError) -> str:
    """What the system says of a file; of one of our own folders, how another is named."""
    import errno
    from pathlib import Path

    from sft_local import paths

    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        folder = Path(str(error.filename)).parent if error.filename else ""
        full = folder or " and of ".join(_full_folders()) or "the files that are written"
        return f"{error.strerror}: make room on the disk of {full}."
    if not (error.filename and error.strerror):
        return str(error)
    said = f"{error.filename}: {error.strerror}."
    if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
        return said
    file = Path(str(error.filename))
    try:
        ours = {paths.HOME_VARIABLE: paths.state_dir(), paths.CACHE_VARIABLE: paths.cache_dir()}
    except UserError:  # there is no home folder
        return said
    for variable, folder in ours.items():
        if file == folder or file in folder.parents or folder in file.parents:
            return f"{said} Set {variable} to a folder that can be written."
    return said


def _full_folders() -> list[str]:
    """Those of the folders that commands write to whose disks have no room left."""
    import os
    import shutil
    import tempfile
    from contextlib import suppress
    from pathlib import Path

    from sft_local import paths

    folders = [Path.cwd()]
    with suppress(OSError):  # where a disk is full there may be no folder for temporary files
        folders.insert(0, Path(os.environ.get("TMPDIR") or tempfile.gettempdir()))
    with suppress(UserError):  # there is no home folder
        folders += [paths.state_dir(), paths.cache_dir()]
    full = []
    for folder in folders:
        with suppress(OSError):  # it is not there yet
            if shutil.disk_usage(folder).free < NO_ROOM_BYTES:
                full.append(str(folder))
    return full


def _ended_here(error: BaseException) -> str:
    """What to say if the local Vertex AI had listened where `error` found that nobody does."""
    import requests

    try:
        from sft_local import control, paths

        log = paths.state_dir() / "server.log"
    except (ImportError, UserError):
        return ""
    if not isinstance(error, requests.ConnectionError) or not error.request or not log.is_file():
        return ""
    address = "/".join(str(error.request.url).split("/")[:3])
    found = control.running()
    # Each start writes its address there.
    was_here = f"Ready: {address}\n" in log.read_text(encoding="utf-8", errors="replace")
    if not was_here or (found and found.api_url == address):
        return ""
    return (
        f"The local Vertex AI at {address} has ended; its log is {log}. What ran there begins "
        'again when it is started: `vertex-sft local up`, then `eval "$(vertex-sft local env)"`.'
    )
