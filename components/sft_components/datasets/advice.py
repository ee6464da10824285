"""What the first rows of a data set show: inconsistent prompts, missing instructions, languages."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain, combinations, takewhile

from sft_components.datasets.rows import Conversation
from sft_components.datasets.statistics import SAMPLE_CHARS, Statistics, shortened

# What stands before a keyword is looked at where one is found, and small letters are compared, so
# that the pattern begins with letters, which is what makes it fast.
_KEYWORD = re.compile(
    "(question|context|input|text|passage|document|article|instruction|answer) ?:"
)
_NO_KEYWORD = re.compile(r"(?:\w|\b(?:an?|the|this|your|given|following) )\Z")
"""In words and in running text (the following text:) they are none."""
_ENOUGH = 20
"""Fewer rows than this show no habit."""
_SCRIPTS = (
    ("Chinese or Japanese", "\u4e00", "\u9fff"), ("Japanese", "\u3040", "\u30ff"),
    ("Korean", "\uac00", "\ud7a3"), ("Cyrillic script", "\u0400", "\u04ff"),
    ("Arabic script", "\u0600", "\u06ff"), ("Hebrew", "\u0590", "\u05ff"),
    ("Devanagari script", "\u0900", "\u097f"), ("Thai", "\u0e00", "\u0e7f"),
    ("Greek", "\u0370", "\u03ff"),
)  # fmt: skip
_WORDS = {
    "English": "the and of to is in that it for with you this are",
    "German": "der die und das ist nicht ein zu den mit von auf sich",
    "French": "le la les et des est une que dans pour vous pas du",
    "Spanish": "el los las que por una con para del es como más su",
    "Portuguese": "o os que não uma com para do da em mais é você",
    "Italian": "il di che non per una sono con della gli del è più",
    "Dutch": "de het een van en niet dat op te zijn met voor ik",
    "Polish": "i nie na się jest że do to jak z w czy po",
    "Turkish": "bir ve bu için ile ne çok da mi olarak daha gibi",
    "Swedish": "och att det som är en på inte av för jag med den",
}
_BY_WORD: dict[str, list[str]] = {}
for _language, _list in _WORDS.items():
    for _word in _list.split():
        _BY_WORD.setdefault(_word, []).append(_language)


def inconsistencies(statistics: Statistics, has_default: bool) -> Iterator[tuple[str, str]]:
    """Code and message of the habits that only some of the rows have.

    Args:
        statistics: Of the data set.
        has_default: Whether rows without a system instruction are given one.
    """
    rows = statistics.rows
    with_system = sum(n for shape, n in statistics.shapes.items() if shape.system)
    if 0 < with_system < rows and not has_default:
        yield "system-inconsistent", f"{with_system:,} of {rows:,} rows have a system instruction"
    sample = statistics.sample
    if len(sample) < _ENOUGH:
        return
    prompts = [_prompt(row) for row in sample]
    for message in _keywords(prompts):
        yield "keywords-inconsistent", message
    if _lacks_instruction(sample, prompts):
        answers = len({_answer(row) for row in sample})
        yield (
            "instruction-missing",
            f"the first {len(sample):,} rows have {answers} different short answers, "
            "which no prompt names",
        )


def _keywords(prompts: Sequence[str]) -> Iterator[str]:
    each = [list(dict.fromkeys(_words(shortened(prompt).lower()))) for prompt in prompts]
    first = f"of the first {len(prompts):,} prompts"
    if any(len(prompt) > 2 * SAMPLE_CHARS for prompt in prompts):
        first += f" (of long ones {SAMPLE_CHARS:,} characters at each end are read)"
    for word, count in Counter(chain.from_iterable(each)).most_common():
        if 0.1 < count / len(prompts) < 0.9:
            yield f"`{word}:` stands in {count:,} {first}"
    orders = Counter(chain.from_iterable(combinations(words, 2) for words in each))
    for (one, other), count in orders.most_common():
        rarer = orders[other, one]
        if count >= rarer > 0.1 * (count + rarer) and count + rarer >= _ENOUGH:
            yield (
                f"`{one}:` stands before `{other}:` in {count:,} {first}, and after it in {rarer:,}"
            )
            return  # where there are more words, each two of them would say the same


def _words(text: str) -> Iterator[str]:
    for found in _KEYWORD.finditer(text):
        start = found.start()
        if not _NO_KEYWORD.search(text[max(0, start - 11) : start]):  # `following ` and one more
            yield found[1]


def _lacks_instruction(sample: Sequence[Conversation], prompts: Sequence[str]) -> bool:
    answers = Counter(map(_answer, sample))
    if not 1 < len(answers) <= len(sample) // 10 or any(len(a.split()) > 3 for a in answers):
        return False
    if any(row.system or len(row.turns) > 2 for row in sample):
        return False
    # An instruction is a text that all prompts share, or one that names the possible answers.
    for texts in (prompts, [prompt[::-1] for prompt in prompts]):
        if len(_common_start(min(texts), max(texts)).strip()) > 8:
            return False
    labels = [answer.lower() for answer in answers if answer]
    named = sum(all(label in prompt.lower() for label in labels[:5]) for prompt in prompts)
    return named < len(prompts) / 2


def _common_start(first: str, second: str) -> str:
    same = (a == b for a, b in zip(first, second, strict=False))
    return first[: sum(takewhile(bool, same))]


def _prompt(row: Conversation) -> str:
    return "\n".join(p for p in row.turns[0].parts if isinstance(p, str))


def _answer(row: Conversation) -> str:
    return next((p.strip() for p in row.turns[-1].parts if isinstance(p, str)), "")


def languages(sample: Sequence[Conversation]) -> dict[str, Counter[str]]:
    """Messages of the sample by role and language; a guess, from scripts and common words.

    A role none of whose languages can be told is left out.
    """
    found: dict[str, Counter[str]] = {}
    for row in sample:
        for role, parts in (("system", row.system), *((t.role, t.parts) for t in row.turns)):
            for part in parts:
                if isinstance(part, str):
                    found.setdefault(role, Counter())[language(part)] += 1
    return {role: counts for role, counts in found.items() if counts.keys() != {"unknown"}}


def language(text: str) -> str:
    """The language of a text, as far as script and common words tell; else `unknown`."""
    text = text[:600]
    if not text.isascii():
        letters = [c for c in text if c.isalpha()]
        for name, first, last in _SCRIPTS:
            if sum(first <= c <= last for c in letters) * 5 > len(letters):
                if name == "Chinese or Japanese":
                    kana = any("\u3040" <= c <= "\u30ff" for c in letters)
                    return "Japanese" if kana else "Chinese"
                return name
    votes: Counter[str] = Counter()
    words = re.findall(r"\w+", text.lower())
    for word in words:
        votes.update(_BY_WORD.get(word, ()))
    best = votes.most_common(2)
    if not best or (len(best) > 1 and best[0][1] == best[1][1]):
        return "unknown"
    # In running text every eighth word is one of a language's commonest dozen.
    return best[0][0] if best[0][1] * 8 >= len(words) else "unknown"
