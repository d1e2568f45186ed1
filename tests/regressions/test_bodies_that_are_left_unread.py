"""A body that was refused unread closed the connection without a word: the next request was lost.

RTIO and Cesanta's clients keep connections, and repeat no request that a closing one loses. A
public report of this kind: https://github.com/vapor/vapor/issues/2252.
"""

import http.client
import json

import pytest

from tests.support.servers import PATIENCE, Server

pytestmark = [pytest.mark.e2e, pytest.mark.once(on="sqlite")]

QUESTION = json.dumps(
    {
        "method": "verify",
        "id": 1999,
        "deviceid": "cfa09baa-4913-4ad7-a936-2e26f9671b05",
        "devicesecret": "mb6bgso4EChvyzA05thF9+wH",
    }
)


@pytest.mark.parametrize(
    ("method", "path", "length", "status", "closes"),
    [
        ("POST", "/deviceverifier", 64 * 1024 + 1, 413, True),
        ("POST", "/deviceverifier", 1_000_000, 413, True),
        ("PUT", "/deviceverifier", 70_000, 405, True),
        ("POST", "/hubconfiger", 100_000, 413, True),
        ("POST", "/rpc", 256 * 1024 + 1, 413, True),
        ("POST", "/v1/Hello", 300_000, 413, True),
        ("POST", "/deviceverifier", 64 * 1024, 200, False),
        ("POST", "/rpc", 200_000, 400, False),
    ],
)
def test_the_next_request_of_a_client_is_answered(
    server: Server, method: str, path: str, length: int, status: int, closes: bool
) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
    for _ in range(5):
        connection.request(method, path, b" " * length)
        answer = connection.getresponse()
        answer.read()
        assert (answer.status, answer.headers["Connection"] == "close") == (status, closes)
        connection.request("POST", "/deviceverifier", QUESTION)
        answer = connection.getresponse()
        assert json.loads(answer.read()) == {"id": 1999, "code": "OK"}
    connection.close()
