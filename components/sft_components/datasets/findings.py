"""What the checker found, and how it is told to people and machines."""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import NamedTuple

import msgspec

from sft_components.datasets.rules import RULES

SHOWN = 20
ALIKE = 3
"""So many are shown of those that say the same of other lines."""
KEPT = 1_000
_LINES = 8


class Finding(msgspec.Struct, frozen=True, omit_defaults=True):
    """One breach of one rule."""

    code: str
    severity: str
    file: str
    message: str
    line: int = 0
    """Line of the file, from 1; 0 for the file as a whole."""
    column: int = 0
    """Column of the line in characters, from 1; 0 where the path says more."""
    path: str = ""
    """JSON path, for instance `$.messages[2].content`."""
    excerpt: str = ""

    @property
    def cure(self) -> str:
        """How to mend it."""
        return RULES[self.code].cure

    def place(self) -> str:
        """`FILE:LINE:COLUMN PATH`, as far as known; a file without lines has rows."""
        place = self.file
        if self.line:
            between = " row " if place.lower().endswith(".parquet") else ":"
            place += f"{between}{self.line}"
        if self.column:
            place += f":{self.column}"
        return f"{place} {self.path}".rstrip()

    def text(self) -> str:
        """The finding as two short lines."""
        excerpt = f" | {self.excerpt}" if self.excerpt else ""
        return f"{self.place()}: {self.severity} {self.code}: {self.message}{excerpt}"


def whole_finding(code: str, message: str, file: str, line: int = 0) -> Finding:
    """A finding about a set as a whole, or about a line compared with others."""
    return Finding(code=code, severity=RULES[code].severity, file=file, message=message, line=line)


class Group(NamedTuple):
    """The findings of one rule."""

    code: str
    number: int
    shown: list[tuple[Finding, str]]
    """The first, and behind the last that say the same in how many more rows it is so."""


class Findings:
    """Findings in the order of the file: all are counted, the first are kept.

    Args:
        listener: Called with every finding, kept or not.
    """

    def __init__(self, listener: Callable[[Finding], None] | None = None) -> None:
        self.counts: Counter[str] = Counter()
        self.kept: list[Finding] = []
        self._severities: Counter[str] = Counter()
        self._kept_of: Counter[str] = Counter()
        self._listener = listener

    def add(self, finding: Finding) -> None:
        """Count a finding, and keep it if few of its code are kept."""
        self.counts[finding.code] += 1
        self._severities[finding.severity] += 1
        if self._kept_of[finding.code] < KEPT:
            self._kept_of[finding.code] += 1
            self.kept.append(finding)
        if self._listener:
            self._listener(finding)

    @property
    def errors(self) -> int:
        """Number of findings that are errors."""
        return self._severities["error"]

    @property
    def errors_counted(self) -> str:
        """The same for people: `1 error`, `2 errors`."""
        return f"{self.errors:,} error{'' if self.errors == 1 else 's'}"

    @property
    def warnings(self) -> int:
        """Number of findings that are warnings."""
        return self._severities["warning"]

    def grouped(self, severity: str, shown: int = SHOWN) -> list[Group]:
        """The findings by rule: `shown` in all, or one of each rule where there are more rules."""
        rules: dict[str, dict[tuple[str, str], list[Finding]]] = {}
        for finding in self.kept:
            if finding.severity == severity:
                alike = rules.setdefault(finding.code, {})
                alike.setdefault((finding.file, finding.message), []).append(finding)
        sizes = {c: sum(min(ALIKE, len(a)) for a in alike.values()) for c, alike in rules.items()}
        # What the rules with few findings leave is for the others.
        for number, code in enumerate(sorted(sizes, key=sizes.__getitem__)):
            sizes[code] = min(sizes[code], max(1, shown // (len(sizes) - number)))
            shown -= sizes[code]
        return [
            Group(code, self.counts[code], self._shown(code, alike.values(), sizes[code]))
            for code, alike in rules.items()
        ]

    def _shown(
        self, code: str, alike: Iterable[list[Finding]], left: int
    ) -> list[tuple[Finding, str]]:
        shown: list[tuple[Finding, str]] = []
        least = "at least " if self.counts[code] > KEPT else ""
        for same in alike:
            first = same[: min(ALIKE, left)]
            left -= len(first)
            shown += [(finding, "") for finding in first]
            if first and (rest := same[len(first) :]):
                lines = list(dict.fromkeys(str(finding.line) for finding in rest))
                lines[_LINES:] = ["…"] * (len(lines) > _LINES)
                again = f"the same {least}{len(rest):,} times more: lines {', '.join(lines)}"
                shown[-1] = (first[-1], again)
        return shown

    def text(self, severity: str = "error", shown: int = SHOWN) -> str:
        """The groups as lines of text: the places, then the cure and how many more there are."""
        lines: list[str] = []
        for code, count, group in self.grouped(severity, shown):
            for finding, same in group:
                lines += [finding.text(), f"  {same}"] if same else [finding.text()]
            more = f" ({len(group)} of {count:,} shown)" if count > len(group) else ""
            lines.append(f"  cure: {RULES[code].cure}{more}")
        return "\n".join(lines)
