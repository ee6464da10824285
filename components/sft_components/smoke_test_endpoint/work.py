"""Prove that an endpoint answers: real prompts, after the warm-up, with their latencies."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from google.api_core import exceptions as api

from sft_components.errors import UnlikeError, UserError
from sft_components.prompting.asking import ABSENT, Answer
from sft_components.prompting.sampling import Surface
from sft_components.smoke_test_endpoint.cases import Case, read_cases
from sft_components.smoke_test_endpoint.load import put_under_load
from sft_components.smoke_test_endpoint.outcome import Given, SmokeTestResult
from sft_components.smoke_test_endpoint.proof import prove
from sft_components.smoke_test_endpoint.settings import check_smoke_test
from sft_components.smoke_test_endpoint.ways import Way, ways
from sft_components.vertex.failures import said
from sft_components.vertex.prediction import EndpointSession, endpoint_connection
from sft_components.vertex.retrying import TRANSIENT, backoff, reading

PATIENCE_S = 120.0
"""How long one question is asked again where the fault may pass, once there was an answer."""
PROMPTS = (
    "What is a car?",
    "Name three colours.",
    "Answer with one word: what is the capital of France?",
)


def examine_endpoint(
    *,
    endpoint: str,
    base_model: str = "",
    prompts: Sequence[str] = (),
    prompts_uri: str = "",
    max_latency_s: float = 0.0,
    requests: int = 0,
    concurrency: int = 8,
    base_endpoint: str = "",
    warm_up_timeout_s: float = 900.0,
    deployed_model: str = "",
    report_path: Path | None = None,
    log: Callable[[str], None] = print,
) -> SmokeTestResult:
    """Ask the endpoint each prompt through every surface that its kind of model has.

    Those are `predict` and `chat/completions` of open models, `generateContent` of Gemini, and
    `predict` of the retired models. One must answer: a model tuned on chats may end a bare text at
    once, and a model without a chat template has no chat. Variants of them (streamed, the prompt
    repeated before the answer) are tried with the first prompt.

    Args:
        endpoint: `projects/…/endpoints/…`.
        base_model: What was tuned, as the catalogue names it; empty: every surface is tried.
        prompts: Asked in order; empty, and no file: built-in ones.
        prompts_uri: JSON Lines or YAML of prompts with expectations, gs:// or a path.
        max_latency_s: Fail when an answer after the warm-up takes longer; 0: no limit.
        requests: Ask so many more, `concurrency` at a time and streamed where that works; 0: none.
        concurrency: How many of those at a time.
        base_endpoint: Endpoint of the base model, to prove that the tuned weights are served;
            a Gemini model is asked by its name without.
        warm_up_timeout_s: How long the first answer may be waited for.
        deployed_model: Id of the one of its deployed models that is meant; it must have a share of
            the traffic. Empty: whichever answers.
        report_path: Where an HTML report is written, also of a test that is not passed, or that
            ends with an error.
        log: Called with lines of progress.

    Returns:
        What was seen, with what is wrong in `failures`.

    Raises:
        UserError: The endpoint gives no answer at all, or a setting cannot be.
    """
    result = SmokeTestResult(endpoint)
    with _reported(result, report_path):
        check_smoke_test(prompts_uri, max_latency_s, requests, concurrency, prompts=prompts)
        connection = endpoint_connection(endpoint)
        cases = [Case(prompt) for prompt in prompts]
        if prompts_uri:
            cases += read_cases(prompts_uri, connection.project)
        cases = cases or [Case(prompt) for prompt in PROMPTS]

        def session() -> EndpointSession:
            return EndpointSession(connection, endpoint, deployed_model)

        test = _Test(session(), result, base_model, max_latency_s, log)
        test.warm_up(cases[0], warm_up_timeout_s)
        for case in cases:
            test.ask(case)
        main = test.main()
        if requests:
            way = test.streamed(main)
            log(f"{requests} requests by {way.name!r}, {concurrency} at a time")
            result.load = put_under_load(
                session,
                way.ask,
                cases,
                requests=requests,
                concurrency=concurrency,
                max_latency_s=max_latency_s,
            )
            if fault := result.load.fault():
                result.failures.append(fault)
        given = [a for a in result.given if a.way == main.name and a.seconds is not None]
        prove(result, main, given, base_model=base_model, base_endpoint=base_endpoint, log=log)
    return result


@contextmanager
def _reported(result: SmokeTestResult, path: Path | None) -> Iterator[None]:
    """Write the report at the end of the block, however it ends."""
    try:
        yield
    except BaseException as error:
        result.failures.append(said(error) or type(error).__name__)
        raise
    finally:
        if path is not None:
            # Here, so that a promotion's test needs no package for reports.
            from sft_components.smoke_test_endpoint.report import build_report

            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(build_report(result), encoding="utf-8")


class _Test:
    """The questions that are put one after the other."""

    def __init__(
        self,
        session: EndpointSession,
        result: SmokeTestResult,
        base_model: str,
        max_latency_s: float,
        log: Callable[[str], None],
    ) -> None:
        self._session = session
        self._max_latency_s = max_latency_s
        self._log = log
        self.result = result
        try:
            self.result.address = reading(log=log)(lambda: session.host)()
        except api.NotFound as error:
            raise UserError(f"There is no endpoint {session.endpoint}.") from error
        peered = session.peered
        self._ways = ways(base_model, peered=peered is not None)
        self._streams: dict[Surface, Way] = {}
        # Surfaces that it is known to have: an answer that is not understood is a fault there. A
        # model that may be of any kind is known by what it understands.
        surfaces = {way.surface for way in self._ways}
        self._sure = (
            surfaces if "generateContent" not in surfaces or "chat" not in surfaces else set()
        )
        log(f"Asking {session.endpoint} at {session.host}")
        if peered is not None:
            self.result.absent["streamed"] = peered.lacks("streamed answers")
            log(f"{self.result.absent['streamed']} A chat goes through it.")

    def warm_up(self, case: Case, timeout_s: float) -> None:
        """Wait for the first answer; the first prompts after a deployment are slow.

        Raises:
            UserError: There is none in time.
        """
        started = time.monotonic()
        for wait in backoff(1.0, 15.0):
            refusals: list[str] = []
            for way in self._ways:
                try:
                    way.ask(self._session, case)
                except (*TRANSIENT, *ABSENT, UnlikeError) as error:
                    # A surface that this endpoint does not have, or not yet.
                    refusals.append(said(error))
                except api.GoogleAPICallError as error:
                    raise UserError(f"{self._session.endpoint}: {said(error)}") from error
                else:
                    self.result.warm_up_s = time.monotonic() - started
                    self._log(f"First answer after {self.result.warm_up_s:.1f} s")
                    return
            if time.monotonic() - started > timeout_s:
                raise UserError(
                    f"{self._session.endpoint} gave no answer in {timeout_s:.0f} s. "
                    f"{' '.join(refusals)}"
                )
            self._log(f"Not ready: {refusals[0]}")
            time.sleep(wait)

    def ask(self, case: Case) -> None:
        """Ask `case` in every way that the endpoint has, and look at the answers."""
        answers: dict[Way, Answer] = {}
        before = len(self.result.failures)
        asked = list(self._ways)
        for way in asked:
            if way in self._ways and (answer := self._ask(way, case)) is not None:
                answers[way] = answer
        # Surfaces of other kinds of model: nobody misses them, so why is in the report only.
        foreign = [way for way in asked if way.surface not in self._sure and not way.extra]
        if foreign:
            names = ", ".join(dict.fromkeys(way.name for way in foreign))
            self._log(f"Not at this endpoint: {names}")
        # What is a variant has done its duty with the first prompt.
        self._ways = [way for way in self._ways if not way.extra]
        broken = len(self.result.failures) > before
        counting = self._counting(case, answers)
        # What is left of a letter that was cut off is not streamed.
        spoken = {
            way.surface: way.name
            for way, answer in answers.items()
            if answer.text.strip("\ufffd") and not way.stream
        }
        for way, answer in answers.items():
            failures = case.failures(answer.text, answer.seconds) if way is counting else []
            if not answer.text and way.stream and way.surface in spoken and not case.may_be_empty:
                failures.append(f"is empty as {way.name!r}, though not as {spoken[way.surface]!r}")
            elif way.stream:
                self._streams[way.surface] = way
            self.result.given.append(
                Given(case, way.name, answer.text, answer.seconds, answer.first_s, tuple(failures))
            )
            self.result.failures += [f"The answer to {case.title!r} {f}." for f in failures]
            if self._max_latency_s and answer.seconds > self._max_latency_s:
                self.result.failures.append(
                    f"An answer took {answer.seconds:.2f} s, more than max_latency_s "
                    f"({self._max_latency_s:.2f} s)."
                )
        silent = not any(answer.text for answer in answers.values())
        if silent and not broken and not case.may_be_empty:
            self.result.failures.append(f"It answered nothing to {case.prompt!r}.")

    def main(self) -> Way:
        """The way whose answers count: chat where there is one.

        Raises:
            UserError: The endpoint has none of all.
        """
        if not self._ways:
            raise UserError(
                f"{self._session.endpoint} answers in no way: "
                + " ".join(f"{name}: {said}." for name, said in self.result.absent.items())
            )
        said = {given.way for given in self.result.given if given.text}
        speaking = [way for way in self._ways if way.name in said] or self._ways
        return next((way for way in speaking if way.surface == "chat"), speaking[0])

    def streamed(self, way: Way) -> Way:
        """`way` as it streams its answers; itself where it does not, or where that has failed."""
        return self._streams.get(way.surface, way)

    def _counting(self, case: Case, answers: dict[Way, Answer]) -> Way | None:
        plain = [way for way in answers if not way.extra]
        if case.surface:
            for way in plain:
                if way.surface == case.surface:
                    return way
            if all(way.surface != case.surface for way in self._ways):
                said = f"The endpoint has no {case.surface} for {case.title!r}."
                self.result.failures.append(said)
            return None
        spoken = [way for way in plain if answers[way].text] or plain
        chats = [way for way in spoken if way.surface == "chat"]
        return next(iter(chats or spoken), None)

    def _ask(self, way: Way, case: Case) -> Answer | None:
        """One answer; None where the endpoint does not have this way, which is then dropped.

        None, and a failure, where what came is no answer.
        """
        started = time.monotonic()
        for wait in backoff(1.0, 10.0, 2.0):
            try:
                answer = way.ask(self._session, case)
            except (*ABSENT, UnlikeError, api.Unknown) as error:
                # An image need not repeat prompts as Model Garden's does.
                owed = way.surface in self._sure and (way.stream or not way.extra)
                if owed and not isinstance(error, ABSENT):
                    self._fail(way, case, said(error))
                    return None
                if way.surface in self._sure and way.name not in self.result.absent:
                    self._log(f"{way.name} is refused: {said(error)}")
                self.result.absent[way.name] = said(error)
                self._ways = [other for other in self._ways if other is not way]
                return None
            except TRANSIENT as error:
                if time.monotonic() - started > PATIENCE_S:
                    raise UserError(
                        f"{self._session.endpoint} does not answer: {said(error)}"
                    ) from error
                self._log(f"{way.name} failed, trying again: {said(error)}")
                time.sleep(wait)
                continue
            bare = ", without chat template," if way.surface == "predict" else ""
            told = f"{case.title!r} -> {answer.text[:80]!r}"
            self._log(f"{way.name}{bare} {answer.seconds:.2f} s: {told}")
            self._keep(way)
            return answer
        raise AssertionError("unreachable")

    def _fail(self, way: Way, case: Case, said: str) -> None:
        self._log(f"{way.name}: {case.title!r} has no answer: {said}")
        self._keep(way)
        self.result.given.append(Given(case, way.name, "", None, None, (said,)))
        self.result.failures.append(
            f"{way.name} gave no answer to {case.title!r}: {said.removesuffix('.')}."
        )

    def _keep(self, way: Way) -> None:
        """Other forms of a way that the endpoint has need not be tried."""
        self._sure.add(way.surface)
        self.result.absent.pop(way.name, None)
        self._ways = [other for other in self._ways if other is way or other.name != way.name]
