"""How answers begin that decline to answer, in English."""

import re

REACH = 300
"""Characters from the beginning of an answer that are looked at."""

_APOSTROPHES = str.maketrans(dict.fromkeys("\u2018\u2019\u02bc\u00b4`\uff07", "'"))
_ADVERBS = r"(?:(?:just|also|still|therefore|\w+ly) )*"
# What follows is said in answers that do not decline: "I can't wait to hear it".
_CANNOT = (
    r"(?:ca(?:n'?t|nnot|n not)|could(?:n'?t| not))"
    r"(?! (?:wait|believe|stress|emphasi[sz]e|overstate|imagine|thank|help but|"
    r"recommend\b.{0,60}\benough)\b)"
)
_DECLINES = (
    rf"(?:(?:'?m| am|'?re| are) {_ADVERBS}(?:unable|not (?:able|allowed|permitted|comfortable|"
    rf"willing|going|authori[sz]ed|designed|in a position)\b)| {_ADVERBS}(?:{_CANNOT}|"
    r"(?:won'?t|will not)(?! lie\b)|(?:(?:must|have to|need to|will) (?:\w+ly )?)?"
    r"(?:decline|refuse)\b|(?:don'?t|do not) (?:feel (?:comfortable|right)|provide|assist|engage|"
    r"have (?:access|enough|information|personal|the (?:ability|capability)))|"
    r"would rather not|prefer not)|'d rather not)"
)
# A shop that cannot deliver before Monday declines nothing that it was asked to say.
_WE_CANNOT = (
    r"(?:can'?t|cannot|can not|won'?t|will not|are (?:unable|not able) to|must decline to) "
    r"(?:help|assist|answer|comply|discuss|share|provide|respond|engage|support|do that|fulfil)"
)
_NOT_MINE = r"(?:not something (?:that )?(?:i|we)\b|violates? |goes against |against (?:my|our) )"
_APOLOGY = (
    r"(?:(?:(?:i|we)(?:'?m| am|'?re| are) (?:\w+ ){0,2})?sorry|(?:i|we) (?:\w+ )?apologi[sz]e|"
    r"(?:(?:my|our) )?(?:\w+ )?apologies)\b"
)
_PREFACE = (
    r"(?:(?:i|we)(?:'?m| am|'?re| are) afraid|i regret|unfortunately|regrettably|"
    r"(?:as|i'?m|i am) (?:just |only )?an? (?:ai|artificial|(?:large )?language|assistant)|"
    r"i (?:understand|appreciate|know|see|hear)|while|although|thank(?:s| you)|no)\b"
)
_REFUSAL = re.compile(
    r"^\W*(?:(?:hi|hello|hey|oh|ok|okay|well)\b\W+)?(?:"
    rf"{_APOLOGY}\W+(?:but|no)\b|"
    rf"(?:{_APOLOGY}|{_PREFACE}).*?(?:\bi{_DECLINES}|\bwe {_ADVERBS}{_WE_CANNOT}|\b{_NOT_MINE})|"
    rf"i{_DECLINES}|"
    r"(?:that|this|it)(?:'?s| is) (?:not something (?:that )?i\b|"
    r"something (?:that )?i (?:can'?t|cannot|won'?t))|"
    r"it(?:'?s| is| would be) (?:illegal|unethical|inappropriate|irresponsible|wrong|"
    r"not (?:appropriate|ethical|right))\b.* for me to\b|"
    r"(?:cannot|can'?t|unable to|not able to) (?:help|assist|comply|answer|fulfil|provide))",
    re.IGNORECASE,
)


def declines(text: str) -> bool:
    """Whether an answer begins as refusals do.

    An apology alone is none ("I'm sorry to hear that. Try this: ..."): something must be declined
    after it.
    """
    plain = " ".join(text[: 2 * REACH].translate(_APOSTROPHES).split())
    return bool(_REFUSAL.search(plain[:REACH]))
