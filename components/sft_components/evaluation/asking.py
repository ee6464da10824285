"""All rows to one model over HTTP: many at a time, each until it is answered."""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from typing import Any

from google.api_core import exceptions as api

from sft_components.errors import UnlikeError, UserError
from sft_components.evaluation.dialects import Dialect
from sft_components.evaluation.kept import Answer, KeptAnswers, key
from sft_components.evaluation.rows import EvaluationRow
from sft_components.vertex.answers import whole
from sft_components.vertex.connection import Connection
from sft_components.vertex.failures import said
from sft_components.vertex.peered import PeeredEndpoint
from sft_components.vertex.prediction import EndpointSession, endpoint_connection
from sft_components.vertex.retrying import TRANSIENT, backoff, reading

PROGRESS_SECONDS = 5.0
ANSWER_TIMEOUT_S = 300.0
WARM_UP_S = 900.0
"""The first prompts after a deployment are slow, or are not answered at all yet."""
RETRY_S = 900.0
"""How long one row is asked again where the fault may pass: a quota that is used up comes back."""
MOST_REFUSED = 0.1
"""Share of rows. A row that is too long, or a filter of content, may cost a few; where more are
refused the endpoint is broken, and what it happened to answer must not decide anything."""
HOPELESS = (api.Unauthorized, api.Forbidden, api.NotFound)
"""What refuses a row for these reasons refuses every row."""


class Model:
    """A model behind an address."""

    def __init__(
        self,
        connection: Connection,
        url: str,
        *,
        name: str,
        identity: str,
        peered: PeeredEndpoint | None = None,
    ) -> None:
        """
        Args:
            connection: Who asks.
            url: Address of the endpoint or publisher model, without a method.
            name: What messages call the model.
            identity: What answers depend on beside the request: another model, another identity.
            peered: How it is asked instead, if it is inside a VPC network.
        """
        self.name = name
        self.identity = identity
        self._connection = connection
        self._url = url
        self._peered = peered
        self._local = threading.local()

    def ask(
        self, dialect: Dialect, row: EvaluationRow, max_new_tokens: int, timeout_s: float
    ) -> str:
        """The model's answer to `row`.

        Raises:
            google.api_core.exceptions.GoogleAPICallError: With the service's own message.
            UnlikeError: The endpoint speaks another dialect.
        """
        suffix, body = dialect.request(row, max_new_tokens)
        return dialect.text(self._post(suffix, body, timeout_s))

    def key(self, dialect: Dialect, row: EvaluationRow, max_new_tokens: int) -> str:
        """What the answer to `row` is kept under."""
        return key(self.identity, dialect.request(row, max_new_tokens))

    def _post(self, suffix: str, body: dict[str, Any], timeout_s: float) -> Any:
        if self._peered is not None:
            return self._peered.ask(self._session(), suffix, body, timeout_s)
        response = self._session().post(f"{self._url}{suffix}", json=body, timeout=timeout_s)
        if response.status_code >= 400:
            raise api.from_http_response(response)
        return whole(response)

    def _session(self) -> Any:
        # A session is not safe to share between threads.
        if not hasattr(self._local, "session"):
            session = (self._peered or self._connection).session()
            # What the environment says of proxies and certificates is read once, not at every
            # request: that takes a third of a request's time, and threads share the processor.
            said = session.merge_environment_settings(self._url, {}, None, None, None)
            session.proxies, session.verify = said["proxies"], said["verify"]
            session.trust_env = False
            self._local.session = session
        return self._local.session


def endpoint_model(name: str, endpoint: str) -> Model:
    """The model behind an endpoint.

    Raises:
        UserError: There is no such endpoint.
    """
    connection = endpoint_connection(endpoint)
    session = EndpointSession(connection, endpoint)
    try:
        found = reading()(session.describe)()
    except api.NotFound as error:
        raise UserError(f"There is no endpoint {endpoint}.") from error
    served = [str(deployed.get("id")) for deployed in found.get("deployedModels", [])]
    return Model(
        connection,
        f"{reading()(lambda: session.host)()}/v1beta1/{endpoint}",
        name=name,
        identity=f"{endpoint} {' '.join(sorted(served))}",
        peered=session.peered,
    )


def published_model(name: str, project: str, location: str, model: str) -> Model:
    """A model of Google's own that needs no endpoint, such as gemini-3.5-flash."""
    connection = Connection(project, location)
    url = f"{connection.base_url}/v1/{connection.parent}/publishers/google/models/{model}"
    return Model(connection, url, name=name, identity=model)


def find_dialect(
    model: Model,
    candidates: Sequence[Dialect],
    row: EvaluationRow,
    max_new_tokens: int,
    kept: KeptAnswers,
    log: Callable[[str], None],
    warm_up_s: float = WARM_UP_S,
) -> Dialect:
    """The first of `candidates` in which the model answers `row`; waits while it warms up.

    The answer goes to `kept`, where `ask_all` finds it.

    Raises:
        UserError: It answers in none, or not in time.
    """
    started = time.monotonic()
    for pause in backoff(1.0, 15.0):
        told: list[str] = []
        passing: set[str] = set()
        for dialect in candidates:
            # Not yet is not never: its plainer forms must not be taken instead.
            if dialect.kind in passing:
                continue
            try:
                text = model.ask(dialect, row, max_new_tokens, warm_up_s)
            except TRANSIENT as error:
                told.append(_message(error))
                passing.add(dialect.kind)
            except UnlikeError as error:
                told.append(str(error))
            except (api.Unauthorized, api.Forbidden) as error:
                raise UserError(
                    f"The {model.name} model may not be asked: {said(error)}"
                ) from error
            except api.GoogleAPICallError as error:
                told.append(_message(error))
            else:
                kept.put(model.key(dialect, row, max_new_tokens), Answer(text))
                log(f"{model.name} first answer after {time.monotonic() - started:.1f} s")
                return dialect
        if not passing or time.monotonic() - started > warm_up_s:
            # The last candidate is the plainest, so its refusal says most.
            raise UserError(f"The {model.name} model does not answer: {told[-1]}")
        log(f"{model.name} is not ready: {told[-1]}")
        time.sleep(pause)
    raise AssertionError("unreachable")


def ask_all(
    model: Model,
    dialect: Dialect,
    rows: Sequence[EvaluationRow],
    *,
    max_new_tokens: int,
    concurrency: int,
    kept: KeptAnswers,
    log: Callable[[str], None],
    answered: Callable[[EvaluationRow, str], object] = lambda row, text: None,
    retry_s: float = RETRY_S,
) -> list[Answer]:
    """The answers to `rows`, in their order, `concurrency` at a time.

    A row that the service refuses for what it is (too long, for instance) has an empty answer. What
    is in `kept` is not asked again; what is answered goes there, and to `answered`, one after the
    other in a thread beside those that ask: what it does must not count as a row's latency.

    Raises:
        UserError: The model cannot be asked at all, did not answer a row for `retry_s` seconds, or
            refused more than `MOST_REFUSED`.
    """
    names = [model.key(dialect, row, max_new_tokens) for row in rows]
    answers = [kept.get(name) for name in names]
    missing = [index for index, answer in enumerate(answers) if answer is None]
    if len(missing) < len(rows) - 1:
        log(f"{model.name} {len(rows) - len(missing)}/{len(rows)} rows were answered before")
    ended = threading.Event()

    def work(index: int) -> None:
        answer = _patiently(model, dialect, rows[index], max_new_tokens, retry_s, ended, log)
        if answer is not None:
            answers[index] = answer
            # An endpoint that is mended may take the row.
            if not answer.refused:
                kept.put(names[index], answer)
                beside.submit(answered, rows[index], answer.text)

    beside = ThreadPoolExecutor(1, thread_name_prefix="answered")
    pool = ThreadPoolExecutor(concurrency, thread_name_prefix="ask")
    try:
        futures: set[Future[None]] = {pool.submit(work, index) for index in missing}
        while futures:
            done, futures = wait(futures, PROGRESS_SECONDS, FIRST_EXCEPTION)
            for future in done:
                future.result()
            log(f"{model.name} {len(rows) - len(futures)}/{len(rows)} rows")
    finally:
        ended.set()
        pool.shutdown(cancel_futures=True)
        beside.shutdown(cancel_futures=True)
    found = [answer for answer in answers if answer is not None]
    refused = [(row.line, a.refused) for row, a in zip(rows, found, strict=True) if a.refused]
    # One alone may be any row's own fault, unless it is all that there is.
    if len(refused) > max(1, MOST_REFUSED * len(rows)) or (refused and len(refused) == len(rows)):
        line, why = refused[0]
        raise UserError(
            f"The {model.name} model refused {len(refused)} of {len(rows)} rows, where at most "
            f"{MOST_REFUSED:.0%} may be: mend the endpoint, or leave out the rows that it does not "
            f"take. Line {line}: {why}"
        )
    return found


def _patiently(
    model: Model,
    dialect: Dialect,
    row: EvaluationRow,
    max_new_tokens: int,
    retry_s: float,
    ended: threading.Event,
    log: Callable[[str], None],
) -> Answer | None:
    """The answer to one row, asked again while the fault may pass; None when told to end."""
    first = time.monotonic()
    for pause in backoff(0.5, 30.0, 2.0):
        if ended.is_set():
            return None
        started = time.monotonic()
        try:
            text = model.ask(dialect, row, max_new_tokens, ANSWER_TIMEOUT_S)
            return Answer(text, time.monotonic() - started)
        except TRANSIENT as error:
            if time.monotonic() - first > retry_s:
                raise UserError(
                    f"The {model.name} model did not answer line {row.line} in "
                    f"{retry_s:.0f} s: {_message(error)}"
                ) from error
            log(f"{model.name} line {row.line} again in {pause:.1f} s: {_message(error)}")
            ended.wait(pause)
        except HOPELESS as error:
            raise UserError(f"The {model.name} model cannot be asked: {said(error)}") from error
        except UnlikeError as error:
            return Answer("", refused=str(error))
        except api.GoogleAPICallError as error:
            return Answer("", refused=_message(error))
    raise AssertionError("unreachable")


def _message(error: Exception) -> str:
    if isinstance(error, api.GoogleAPICallError):
        return f"{error.code.value if error.code else ''} {said(error)}".strip()
    return f"{type(error).__name__}: {said(error)}"
