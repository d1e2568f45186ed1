"""Clients that ask a server the same questions over and over, and keep what they were answered."""

import http.client
import json
import threading
import time
from typing import Any, NamedTuple, Self

from tests.support.servers import Server

PATIENCE = 15  # seconds that a client waits for one answer
PAUSE = 0.01  # seconds between two questions of a client: the server shares the machine with it


class Question(NamedTuple):
    """A POST, the one right answer to it, and the one that says that there is none now."""

    path: str
    content: Any
    right: Any
    unavailable: Any = None


class Answer(NamedTuple):
    """What came, and when: in seconds of the monotonic clock."""

    question: Question
    asked: float
    seconds: float
    status: int
    content: Any

    @property
    def is_right(self) -> bool:
        """Whether it is what the question's answer is."""
        return self.status == 200 and self.content == self.question.right

    @property
    def is_refusal(self) -> bool:
        """Whether it says that there is no answer now, in the shape of its protocol."""
        return (
            self.question.unavailable is not None and self.content == self.question.unavailable[1]
        ) and self.status == self.question.unavailable[0]


class Load:
    """Within the block, `clients` threads ask `questions` in turn over connections they keep."""

    def __init__(
        self,
        server: Server,
        questions: list[Question],
        clients: int = 16,
        pause: float = PAUSE,
    ) -> None:
        self.server = server
        self.questions = questions
        self.pause = pause
        self.answers: list[Answer] = []
        self.broken: list[float] = []  # when connections broke that an answer was awaited on
        self._is_over = threading.Event()
        self._threads = [
            threading.Thread(target=self._ask_on, args=(number,)) for number in range(clients)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join(PATIENCE)

    def between(self, begin: float, end: float) -> list[Answer]:
        """Return the answers to what was asked in this span."""
        return [answer for answer in self.answers if begin <= answer.asked < end]

    def _connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=PATIENCE)

    def _ask_on(self, number: int) -> None:
        connection = self._connect()
        while not self._is_over.is_set():
            number += 1
            question = self.questions[number % len(self.questions)]
            asked = time.monotonic()
            try:
                connection.request("POST", question.path, json.dumps(question.content))
                response = connection.getresponse()
                body = response.read()
            except (OSError, http.client.HTTPException):
                self.broken.append(asked)
                connection.close()
                connection = self._connect()
                time.sleep(0.05)
                continue
            seconds = time.monotonic() - asked
            assert response.headers["Content-Type"] == "application/json"
            answer = Answer(question, asked, seconds, response.status, json.loads(body))
            self.answers.append(answer)
            time.sleep(self.pause)
        connection.close()


def slowest(answers: list[Answer]) -> float:
    """Return the longest time that one of the answers took, in seconds."""
    return max(answer.seconds for answer in answers)


def quantile(answers: list[Answer], part: float) -> float:
    """Return the time within which this part of the answers came, in seconds."""
    ordered = sorted(answer.seconds for answer in answers)
    return ordered[min(int(part * len(ordered)), len(ordered) - 1)]
