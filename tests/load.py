"""Users of an endpoint, for what must not lose a request."""

import threading
import time
from collections import Counter
from typing import Any

import requests


class Load:
    """Users of an endpoint, who ask it all the time; each of them has to be answered."""

    def __init__(self, endpoint: Any) -> None:
        self._url = f"http://{endpoint.dedicated_endpoint_dns}/v1/{endpoint.name}:predict"
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(2)]
        self.answers: list[tuple[int, str]] = []

    def _ask(self) -> None:
        body = {"instances": [{"prompt": "number 3", "max_tokens": 3}]}
        while not self._ended.is_set():
            answer = requests.post(self._url, json=body, timeout=60)
            self.answers.append((answer.status_code, answer.json().get("deployedModelId", "")))
            time.sleep(0.05)

    def shares(self, least: int) -> Counter[str]:
        """Who gave the next `least` answers, counted from now on."""
        begin = len(self.answers)
        while len(self.answers) < begin + least and any(t.is_alive() for t in self._threads):
            self._ended.wait(0.05)
        # What was on its way when the split changed does not count.
        return Counter(who for _, who in self.answers[begin + len(self._threads) :])

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()
        assert len(self.answers) > 10
        assert {status for status, _ in self.answers} == {200}
