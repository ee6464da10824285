"""The HTML report of a smoke test."""

from markupsafe import Markup

from sft_components.reports import Section, bin_values, histogram, page, table, tiles, verdict
from sft_components.reports.elements import Cell
from sft_components.smoke_test_endpoint.outcome import SmokeTestResult

TITLES = {
    "warm_up_s": "Warm-up, s",
    "latency_p50_s": "Median answer, s",
    "latency_p95_s": "95\N{NO-BREAK SPACE}% within, s",
    "latency_p99_s": "99\N{NO-BREAK SPACE}% within, s",
    "load_latency_p50_s": "Median, s",
    "load_latency_p95_s": "95\N{NO-BREAK SPACE}% within, s",
    "load_latency_p99_s": "99\N{NO-BREAK SPACE}% within, s",
    "first_token_p50_s": "First token, median, s",
    "load_first_token_p50_s": "First token, median, s",
    "load_first_token_p95_s": "First token, 95\N{NO-BREAK SPACE}%, s",
    "load_first_token_p99_s": "First token, 99\N{NO-BREAK SPACE}%, s",
    "tokens_per_s": "Tokens a second",
    "requests_per_s": "Requests a second",
    "load_failed": "Failed requests",
    "load_empty": "Empty answers",
    "load_slow": "Answers that took too long",
    "load_retried": "Asked again",
}


def build_report(result: SmokeTestResult) -> str:
    """The report as one HTML document."""
    metrics = result.metrics
    passed = not result.failures
    said = _answered(result) if passed else " ".join(result.failures)
    note = (
        "The model decodes greedily. Expectations hold for one way to ask: chat where there is "
        "one, unless a prompt names another."
    )
    if any(answer.way == "predict" for answer in result.given):
        note += (
            " A plain prompt (predict) is continued as it stands, with no chat template round it: "
            "its answers may look unlike those of chat."
        )
    sections = [
        Section("", verdict(passed, said)),
        Section(
            "Latency",
            _tiles(metrics, "warm_up_s", "latency_p50_s", "latency_p95_s", "first_token_p50_s"),
        ),
        *([Section("Weights", result.proof)] if result.proof else []),
        Section(
            "Answers",
            table(
                ["Prompt", "Asked by", "Expected", "Answer", "Seconds", "First token, s", "Fault"],
                [
                    [
                        answer.case.name or answer.case.prompt,
                        answer.way,
                        answer.case.expected,
                        answer.text,
                        answer.seconds,
                        answer.first_s,
                        "; ".join(answer.failures),
                    ]
                    for answer in result.given
                ],
                caption="Every answer, one after the other",
                wrap=("Prompt", "Expected", "Answer", "Fault"),
            ),
            note=note,
        ),
    ]
    if result.load is not None:
        seconds = [answer.seconds for answer in result.load.answers]
        figures = _tiles(metrics, *[name for name in TITLES if name in result.load.metrics()])
        chart = histogram(bin_values(seconds), x_label="seconds", y_label="answers")
        sections.append(Section("Under load", Markup("{}{}").format(figures, chart)))
    if result.absent:
        rows = [[name, said] for name, said in result.absent.items()]
        sections.append(
            Section("Not offered", table(["Asked by", "Refusal"], rows, wrap=("Refusal",)))
        )
    return page("Smoke test", sections)


def _answered(result: SmokeTestResult) -> str:
    asked = {answer.case.title: bool(answer.case.expected) for answer in result.given}
    wanted = sum(asked.values())
    said = f"{result.endpoint} answered {len(result.given)} requests"
    if not wanted:
        return f"{said}; nothing was expected of the answers but that there are some."
    return f"{said}, as expected where something was ({wanted} of {len(asked)} prompts)."


def _tiles(metrics: dict[str, float], *names: str) -> Markup:
    figures: dict[str, Cell] = {TITLES[name]: metrics[name] for name in names if name in metrics}
    return tiles(figures)
