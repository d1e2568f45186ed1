"""A device service of RTIO that asks the registry whether the device may.

RTIO posts what a device sends to a URI: {"id":…,"method":"copost","deviceid":…,"data":<base64>}. It
has no authorisation of its own, but `deviceid` is true: the registry verified it. Run it with
REGISTRY=http://127.0.0.1:17217/v1/Auth.AuthorizeCommand, and a rule that allows what it asks:
manage.py permit --source DEVICE --destination //services.example/echo --command /echo/Call
From outside the backend networks, set CALLER=ID:SECRET of a backend, too.
"""

import base64
import json
import os
import sys
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

REGISTRY = os.environ["REGISTRY"]
CALLER = os.environ.get("CALLER")
BASIC = {"Authorization": f"Basic {base64.b64encode(CALLER.encode()).decode()}"} if CALLER else {}
SERVICE, COMMAND = "//services.example/echo", "/echo/Call"


def may(device: str) -> bool:
    question = json.dumps({"src": device, "dst": SERVICE, "cmd": COMMAND}).encode()
    request = urllib.request.Request(REGISTRY, question, BASIC)  # noqa: S310 - the operator's
    with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310
        return json.load(answer).get("result") is True


class Echo(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        answer = {"id": asked["id"], "code": "BAD_REQUEST"}
        if may(asked["deviceid"]):
            text = b"echo: " + base64.b64decode(asked.get("data", ""))
            answer |= {"code": "OK", "data": base64.b64encode(text).decode()}
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("SERVICE_PORT", "17517"))), Echo)
    sys.stderr.write(f"Listening on http://127.0.0.1:{server.server_port}\n")
    server.serve_forever()
