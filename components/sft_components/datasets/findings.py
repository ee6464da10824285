"""What the checker found, and how it is told to people and machines."""

from collections import Counter
from collections.abc import Callable

import msgspec

from sft_components.datasets.rules import RULES

SHOWN = 20
KEPT = 1_000


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
        """`FILE:LINE:COLUMN PATH`, as far as known."""
        place = self.file
        if self.line:
            place += f":{self.line}"
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

    def grouped(self, severity: str, shown: int = SHOWN) -> list[tuple[str, int, list[Finding]]]:
        """Code, count and first findings of each group; at most about `shown` in all."""
        groups: dict[str, list[Finding]] = {}
        for finding in self.kept:
            if finding.severity == severity:
                groups.setdefault(finding.code, []).append(finding)
        each = max(1, shown // max(1, len(groups)))
        return [(code, self.counts[code], group[:each]) for code, group in groups.items()]

    def text(self, severity: str = "error", shown: int = SHOWN) -> str:
        """The groups as lines of text: the places, then the cure and how many more there are."""
        lines: list[str] = []
        for code, count, group in self.grouped(severity, shown):
            lines += [finding.text() for finding in group]
            more = f" ({count - len(group):,} more of {code})" if count > len(group) else ""
            lines.append(f"  cure: {RULES[code].cure}{more}")
        return "\n".join(lines)
