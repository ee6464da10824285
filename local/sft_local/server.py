"""The process: two ports, the storage server, the queue of jobs, and an orderly end."""

import argparse
import asyncio
import contextlib
import json
import logging
import os
import secrets
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filelock
import uvicorn
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from sft_components.errors import UserError
from sft_local import base_model, control, lifeline
from sft_local.api import (
    deployments,
    endpoints,
    experiments,
    faults,
    gemini,
    model_garden,
    models,
    operations,
    pipeline_jobs,
    prediction,
    publisher_models,
    registry,
    schedules,
    tuning_jobs,
)
from sft_local.faults import Faults, FaultyWay
from sft_local.gcs import Storage
from sft_local.hosting import Hosting
from sft_local.jobs import JobRunner
from sft_local.legacy import Parts
from sft_local.operations import Operations
from sft_local.paths import EXIT_LOCKED, LOCK_FILE, STATE_FILE, state_dir
from sft_local.pipelines.registry import Registry
from sft_local.pipelines.runner import PipelineRunner
from sft_local.pipelines.scheduler import Scheduler
from sft_local.serving import ModelServers
from sft_local.stand_in import StandIn
from sft_local.storage import StorageServer
from sft_local.store import Store
from sft_local.vertex import Vertex
from sft_local.wire import ApiError

log = logging.getLogger(__name__)


class _NoBrowsers:
    """Refuses requests that a web page sends: the API has no other protection here."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and any(key == b"origin" for key, _ in scope["headers"]):
            refusal = ApiError("PERMISSION_DENIED", "Web pages may not use the local Vertex AI.")
            await JSONResponse(refusal.body(), refusal.code)(scope, receive, send)
            return
        await self._app(scope, receive, send)


def make_app(vertex: Vertex, *, dedicated: bool) -> ASGIApp:
    """The application of one port: the dedicated endpoints' or the API's."""
    app = FastAPI(title="Vertex AI on this machine", openapi_url=None)
    app.state.vertex = vertex
    app.state.dedicated = dedicated
    app.add_middleware(_NoBrowsers)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"])
    app.include_router(prediction.router)
    app.include_router(gemini.router)
    if dedicated:
        app.include_router(prediction.inside)
    else:
        for module in (
            operations,
            tuning_jobs,
            pipeline_jobs,
            schedules,
            registry,
            model_garden,
            endpoints,
            deployments,
            models,
            publisher_models,
            experiments,
            faults,
        ):
            app.include_router(module.router)

    @app.get("/healthz")
    def healthz() -> dict[str, str]:
        return {"nonce": vertex.nonce}

    @app.exception_handler(ApiError)
    async def refused(request: Request, error: ApiError) -> JSONResponse:
        return JSONResponse(error.body(), error.code)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        return await refused(request, ApiError("INVALID_ARGUMENT", f"{place}: {first['msg']}"))

    @app.exception_handler(HTTPException)
    async def unknown(request: Request, error: HTTPException) -> JSONResponse:
        what = f"{request.method} {request.url.path}"
        if error.status_code in (404, 405):
            message = f"The local Vertex AI has no {what}."
            return await refused(request, ApiError("NOT_FOUND", message))
        return await refused(request, ApiError("INVALID_ARGUMENT", f"{what}: {error.detail}"))

    @app.exception_handler(Exception)
    async def broken(request: Request, error: Exception) -> JSONResponse:
        log.error("%s %s", request.method, request.url.path, exc_info=error)
        message = f"{type(error).__name__}: {error}"
        return await refused(request, ApiError("INTERNAL", message))

    return FaultyWay(app, vertex.faults)


class _Uvicorn(uvicorn.Server):
    """A server whose end is decided by this module, not by uvicorn's own signal handlers."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _listen() -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", 0))
    return listener


async def _serve(
    apps: list[tuple[ASGIApp, socket.socket]], ended: asyncio.Event, ready: Any
) -> None:
    servers = [
        _Uvicorn(
            uvicorn.Config(
                app, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=2
            )
        )
        for app, _ in apps
    ]
    tasks = [
        asyncio.create_task(server.serve(sockets=[listener]))
        for server, (_, listener) in zip(servers, apps, strict=True)
    ]
    while not all(server.started for server in servers):
        await asyncio.sleep(0.02)
    ready()
    waiter = asyncio.create_task(ended.wait())
    await asyncio.wait([waiter, *tasks], return_when=asyncio.FIRST_COMPLETED)
    waiter.cancel()
    for server in servers:
        server.should_exit = True
    await asyncio.gather(*tasks)


def run(folder: Path, name: str, *, tied: bool) -> None:
    """Serves until SIGTERM, SIGINT, or, when `tied`, the end of standard input.

    Args:
        folder: The state folder.
        name: The base model, which must have been prepared.
        tied: Whether the process ends with the one that started it.
    """
    model = base_model.find(name)
    if not base_model.is_model(model.folder):
        raise UserError(f"The base model {name!r} is not ready yet.")
    state = folder / STATE_FILE
    state.unlink(missing_ok=True)
    # In reverse order of creation everything is ended, whatever happens in between.
    with contextlib.ExitStack() as cleanup:
        server = StorageServer(folder / "storage", folder / "logs" / "storage.log")
        cleanup.callback(server.stop)
        storage = Storage(server.url)
        # Jobs whose end cannot be recorded would seem to run for ever.
        store = Store(
            folder / "resources.sqlite", on_failure=lambda: os.kill(os.getpid(), signal.SIGTERM)
        )
        cleanup.callback(store.close)
        ids = Operations(store)
        stand_in = StandIn(model, storage, server.url)
        servers = ModelServers(storage, folder / "serving")
        cleanup.callback(servers.stop_all)
        cleanup.callback(ids.stop)
        api, dedicated = _listen(), _listen()
        prediction_host = f"127.0.0.1:{dedicated.getsockname()[1]}"
        hosting = Hosting(store, servers, ids, stand_in, prediction_host)
        jobs = JobRunner(store, storage, stand_in, folder / "jobs", hosting, resume=not tied)
        cleanup.callback(jobs.stop)
        pipelines = PipelineRunner(store, folder / "pipelines", resume=not tied)
        cleanup.callback(pipelines.stop)
        # Bound below: what a schedule starts needs all the parts.
        scheduler = Scheduler(store, lambda schedule, when: schedules.start(schedule, when, vertex))
        cleanup.callback(scheduler.stop)
        nonce = secrets.token_hex(16)
        vertex = Vertex(
            store,
            storage,
            ids,
            jobs,
            pipelines,
            scheduler,
            Registry(folder / "registry"),
            servers,
            stand_in,
            hosting,
            Faults(),
            nonce,
            prediction_host,
        )
        here = control.LocalVertex(
            f"http://127.0.0.1:{api.getsockname()[1]}",
            f"http://{vertex.prediction_host}",
            server.url,
            os.getpid(),
            folder,
            model.name,
        )
        parts = Parts(store, jobs.trainings, hosting, stand_in)
        pipelines.start(parts, storage, here.environment())
        scheduler.begin()
        facts = {
            "api_url": here.api_url,
            "prediction_url": here.prediction_url,
            "storage_url": here.storage_url,
            "pid": here.pid,
            "nonce": nonce,
            "base_model": here.base_model,
        }

        def ready() -> None:
            partial = state.with_suffix(".new")
            partial.write_text(json.dumps(facts))
            partial.replace(state)
            log.info("Ready: %s", facts["api_url"])

        async def serve() -> None:
            ended = asyncio.Event()
            loop = asyncio.get_running_loop()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, ended.set)
            if tied:

                def end() -> None:
                    loop.call_soon_threadsafe(ended.set)

                lifeline.watch(end)
            apps = [
                (make_app(vertex, dedicated=False), api),
                (make_app(vertex, dedicated=True), dedicated),
            ]
            await _serve(apps, ended, ready)
            log.info("Stopping")

        cleanup.callback(lambda: state.unlink(missing_ok=True))
        asyncio.run(serve())


def main() -> int:
    """The command line of the process; `control.start` is what calls it."""
    parser = argparse.ArgumentParser(prog="python -m sft_local.server")
    parser.add_argument("--state-dir", type=Path)
    parser.add_argument("--base-model", default="smollm2")
    parser.add_argument("--tied", action="store_true", help="end when standard input ends")
    options = parser.parse_args()
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s", force=True
    )
    for noisy in ("httpx", "uvicorn.error"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    folder = state_dir(options.state_dir)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = filelock.FileLock(folder / LOCK_FILE)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        sys.stderr.write(f"Another server uses {folder}.\n")
        return EXIT_LOCKED
    try:
        run(folder, options.base_model, tied=options.tied)
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    finally:
        lock.release()
    return 0


if __name__ == "__main__":
    sys.exit(main())
