"""What a clean data set is told to be: figures, tokens, and the HTML report."""

from collections import Counter
from collections.abc import Sequence

from sft_components.datasets import advice, limits
from sft_components.datasets.findings import Findings
from sft_components.datasets.rules import RULES
from sft_components.datasets.sets import DataSet, Job
from sft_components.reports import Section, histogram, page, table, tiles, verdict


def estimated_tokens(one: DataSet, job: Job) -> float:
    """Of all rows together: of their texts, and of what is put around each message."""
    statistics, form = one.statistics, one.format or "messages"
    lengths = job.options(form).lengths
    messages = 0
    if form != "prompt-completion":  # trained as plain text, as it stands
        messages = sum((s.turns + s.system) * rows for s, rows in statistics.shapes.items())
    return statistics.chars * lengths.tokens_per_char + messages * lengths.tokens_per_message


def tokens_per_byte(one: DataSet, job: Job) -> float:
    """Estimated tokens of a byte: of each row, only the bytes are known."""
    total = sum(size * rows for size, rows in one.statistics.sizes.items())
    return estimated_tokens(one, job) / max(1, total)


def token_counts(one: DataSet, job: Job) -> Counter[int]:
    """Rows by their estimated tokens."""
    ratio = tokens_per_byte(one, job)
    counts: Counter[int] = Counter()
    for size, rows in one.statistics.sizes.items():
        counts[round(size * ratio)] += rows
    return counts


def quantile(counts: Counter[int], share: float) -> int:
    """The value below which `share` of the counted rows are."""
    left = share * counts.total()
    for value in sorted(counts):
        left -= counts[value]
        if left <= 0:
            return value
    return 0


def figures(
    one: DataSet, job: Job, findings: Findings, rows: int | None = None
) -> dict[str, float]:
    """Flat figures of a data set, for metrics and for `--json`.

    Args:
        one: The data set, checked.
        job: What it is for.
        findings: What was found.
        rows: Rows that are used, if fewer than were checked.
    """
    statistics = one.statistics
    used = statistics.rows if rows is None else rows
    counts = token_counts(one, job)
    turns = limits.turns(statistics)
    mean = estimated_tokens(one, job) / max(1, statistics.rows)
    return {
        "rows": statistics.rows,
        "lines": statistics.lines,
        "bytes": statistics.bytes,
        f"{one.role}_tokens": round(mean * used),
        "row_tokens_mean": round(mean, 1),
        "row_tokens_median": quantile(counts, 0.5),
        "row_tokens_p95": quantile(counts, 0.95),
        "row_tokens_max": max(counts, default=0),
        "turns_mean": round(
            sum(n * rows for n, rows in turns.items()) / max(1, statistics.rows), 2
        ),
        "long_rows": statistics.long_rows,
        "dropped_rows": statistics.dropped,
        "media_rows": statistics.media["rows"],
        "duplicate_rows": findings.counts["duplicate-row"],
        "warnings": findings.warnings,
        "errors": findings.errors,
    }


def report_page(sets: Sequence[DataSet], job: Job, findings: Findings) -> str:
    """The HTML report."""
    sections = [Section("Findings", _findings(findings), "What the data sets break, by rule.")]
    for one in sets:
        sections.append(
            Section(
                f"{one.role.capitalize()}: {one.name}",
                _data_set(one, job, findings),
                "Tokens are estimated from characters and bytes. Languages are guessed "
                f"from the first {len(one.statistics.sample):,} rows.",
            )
        )
    return page(f"Data sets for {job.model.name}", sections)


def _findings(findings: Findings) -> str:
    counts = {"error": findings.errors, "warning": findings.warnings}
    said = ", ".join(f"{n:,} {word}{'' if n == 1 else 's'}" for word, n in counts.items())
    body = verdict(not findings.errors, f"{said}.")
    groups = findings.grouped("error", 60) + findings.grouped("warning", 30)
    if groups:
        body += table(
            ("rule", "severity", "count", "cure"),
            [(code, RULES[code].severity, n, RULES[code].cure) for code, n, _ in groups],
            wrap=("cure",),
        )
        body += table(
            ("place", "rule", "what", "excerpt"),
            [
                (f.place(), f.code, f"{f.message} ({same})" if same else f.message, f.excerpt)
                for group in groups
                for f, same in group.shown
            ],
            wrap=("place", "what", "excerpt"),
        )
    return body


def _data_set(one: DataSet, job: Job, findings: Findings) -> str:
    statistics = one.statistics
    lengths = job.options(one.format or "messages").lengths
    numbers = figures(one, job, findings)
    counts = token_counts(one, job)
    body = tiles(
        {
            "rows": statistics.rows,
            "format": one.format or "unknown",
            "tokens an epoch, estimated": numbers[f"{one.role}_tokens"],
            "median tokens a row": numbers["row_tokens_median"],
            "bytes": statistics.bytes,
        }
    )
    longest = max(counts, default=0)
    marked = {"limit": lengths.max_tokens} if lengths.max_tokens else {}
    if longest and lengths.max_tokens and lengths.max_tokens > 4 * longest:
        marked = {}  # the line would press all bars into the left edge
    body += histogram(bins(counts), x_label="estimated tokens of a row", limits=marked, whole=True)
    turns = limits.turns(statistics)
    body += histogram(
        [(n - 0.5, n + 0.5, rows) for n, rows in sorted(turns.items())][:60],
        x_label="turns of a row",
        whole=True,
    )
    ratio = tokens_per_byte(one, job)
    body += table(
        ("line", "bytes", "estimated tokens"),
        [(line, size, round(size * ratio)) for size, line in sorted(statistics.longest)[::-1]],
        caption="Longest rows",
    )
    if languages := advice.languages(statistics.sample):
        body += table(
            ("role", "languages"),
            [(role, spoken(found)) for role, found in languages.items()],
            caption="Languages",
            wrap=("languages",),
        )
    return body


def spoken(found: Counter[str]) -> str:
    """The languages of a role with their shares."""
    return ", ".join(f"{name} {n / found.total():.0%}" for name, n in found.most_common(4))


def bins(counts: Counter[int], wanted: int = 24) -> list[tuple[float, float, int]]:
    """Counted values as bins of equal width."""
    if not counts:
        return []
    low, high = min(counts), max(counts)
    width = max(1, -(-(high - low + 1) // wanted))
    heights: Counter[int] = Counter()
    for value, rows in counts.items():
        heights[(value - low) // width] += rows
    return [(low + i * width, low + (i + 1) * width, heights[i]) for i in range(max(heights) + 1)]
