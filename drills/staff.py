"""Staff at a site: sign in, follow links, fill in a form."""

import http.cookiejar
import re
import urllib.error
import urllib.parse
import urllib.request
from collections import deque

from tests.support.servers import Server

PATIENCE = 30  # seconds
TOKEN = re.compile(r'name="csrfmiddlewaretoken" value="([^"]+)"')
LINK = re.compile(r'href="(/admin/[^"#]*|\?[^"#]*)"')
ELSEWHERE = re.compile(r"/logout/|/jsi18n/|/passkeys/|/export|[?&](o|q|all|_)=|language=")


class Staff:
    """Who is signed in at one site; `cookies` may be taken along to another one."""

    def __init__(self, server: Server, cookies: http.cookiejar.CookieJar | None = None) -> None:
        self.url = server.url
        self.last_page = ""
        self.cookies = http.cookiejar.CookieJar() if cookies is None else cookies
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(self.cookies))

    def sign_in(self, name: str, password: str) -> int:
        """Fill in the login page; return the status of what follows."""
        return self.submit("/admin/login/?next=/admin/", username=name, password=password)

    def get(self, path: str) -> tuple[int, str]:
        try:
            with self._opener.open(self.url + path, timeout=PATIENCE) as answer:
                return answer.status, answer.read().decode(errors="replace")
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode(errors="replace")

    def submit(self, path: str, **fields: str) -> int:
        """Send the form of a page with these fields; return the status."""
        status, page = self.get(path)
        token = TOKEN.search(page)
        if token is None:
            return status
        body = urllib.parse.urlencode({"csrfmiddlewaretoken": token[1], **fields}).encode()
        try:
            with self._opener.open(self.url + path, body, timeout=PATIENCE) as answer:
                self.last_page = page = answer.read().decode(errors="replace")
                return 200 if "errornote" not in page else 400
        except urllib.error.HTTPError as error:
            return int(error.code)

    def disable(self, device: int) -> str:
        """Disable a device; return the page that follows."""
        self.submit(f"/admin/devices/device/{device}/disable/")
        return self.last_page

    def crawl(self, most: int) -> dict[str, int]:
        """Open the pages that links lead to, one of each kind at a time; return their statuses."""
        waiting, seen = deque(["/admin/"]), dict[str, int]()
        while waiting and len(seen) < most:
            path = waiting.popleft()
            if path in seen:
                continue
            status, page = self.get(path)
            seen[path] = status
            for link in LINK.findall(page):
                address = link.replace("&amp;", "&")
                if address.startswith("?"):
                    address = path.partition("?")[0] + address
                if not ELSEWHERE.search(address) and address not in seen:
                    waiting.append(address)
        return seen
