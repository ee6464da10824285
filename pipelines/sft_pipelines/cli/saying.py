"""Errors of calls, in words for the person at the terminal."""


def explained(error: BaseException) -> str:
    """What the service says, with cause and cure where it is a known failure.

    Of a local Vertex AI that has ended in the meantime: that, and how it is started again.
    """
    from sft_components.vertex.failures import explain, said

    return _ended_here(error) or explain(said(error))


def _ended_here(error: BaseException) -> str:
    """What to say if the local Vertex AI had listened where `error` found that nobody does."""
    import requests

    try:
        from sft_local import control, paths
    except ImportError:
        return ""
    log = paths.state_dir() / "server.log"
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
