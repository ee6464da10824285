"""The ways in which an endpoint of a kind of model may be asked."""

from dataclasses import dataclass

from sft_components.evaluation.dialects import dialects
from sft_components.prompting.asking import Answer, Question, ask
from sft_components.prompting.sampling import Sampling, Surface
from sft_components.smoke_test_endpoint.cases import Case
from sft_components.vertex.prediction import EndpointSession


@dataclass(frozen=True)
class Way:
    """One way to ask an endpoint."""

    name: str
    surface: Surface
    thinking_budget: int | None = None
    raw_response: bool = True
    stream: bool = False
    extra: bool = False
    """A variant of another way: tried once, and its answers are held to no expectation."""

    def ask(self, session: EndpointSession, case: Case) -> Answer:
        """The answer to `case`, without blanks around it, greedily: a second time it is the same.

        Raises:
            google.api_core.exceptions.GoogleAPICallError: With the service's own message.
            UnlikeError: The endpoint answers in another form.
        """
        question = Question(case.prompt, case.system, self.raw_response, self.thinking_budget)
        most = case.max_tokens + (self.thinking_budget or 0)
        on_piece = (lambda text: None) if self.stream else None
        answer = ask(
            session, self.surface, question, Sampling(max_tokens=most, temperature=0.0), on_piece
        )
        answer.text = answer.text.strip()
        return answer


def ways(base_model: str, *, peered: bool = False) -> list[Way]:
    """What an endpoint of a model tuned from `base_model` may answer, the likeliest first.

    Args:
        base_model: An empty name leaves them all open.
        peered: Whether it is inside a VPC network, where nothing is streamed and a chat goes
            through `predict`.
    """
    found: list[Way] = []
    streams: list[Way] = []
    for dialect in dialects(base_model):
        budget = dialect.thinking_budget
        if dialect.kind == "gemini":
            found.append(Way("generateContent", "generateContent", budget))
            streams.append(
                Way("streamGenerateContent", "generateContent", budget, stream=True, extra=True)
            )
        elif dialect.kind == "vllm":
            chat = "chat through predict" if peered else "chat"
            found += [Way("predict", "predict"), Way(chat, "chat")]
            streams += [
                Way("predict, prompt repeated", "predict", raw_response=False, extra=True),
                Way("chat, streamed", "chat", stream=True, extra=True),
            ]
        else:
            surface: Surface = "text" if dialect.kind == "text" else "messages"
            found.append(Way(f"predict ({dialect.kind})", surface))
    return [*found, *(way for way in streams if not (peered and way.stream))]
