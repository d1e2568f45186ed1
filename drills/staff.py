"""Staff at a site: sign in, follow links, fill in a form."""

import re
from collections import deque

import httpx

from tests.support.servers import Server

PATIENCE = 30  # seconds
TOKEN = re.compile(r'name="csrfmiddlewaretoken" value="([^"]+)"')
LINK = re.compile(r'href="(/admin/[^"#]*|\?[^"#]*)"')
ELSEWHERE = re.compile(r"/logout/|/jsi18n/|/passkeys/|/export|[?&](o|q|all|_)=|language=")


class Staff:
    """Who is signed in at one site; `cookies` may be taken along to another one."""

    def __init__(self, server: Server, cookies: httpx.Cookies | None = None) -> None:
        self.last_page = ""
        self.client = httpx.Client(
            base_url=server.url, cookies=cookies, follow_redirects=True, timeout=PATIENCE
        )

    def sign_in(self, name: str, password: str) -> int:
        """Fill in the login page; return the status of what follows."""
        return self.submit("/admin/login/?next=/admin/", username=name, password=password)

    def get(self, path: str) -> tuple[int, str]:
        answer = self.client.get(path)
        return answer.status_code, answer.text

    def submit(self, path: str, **fields: str) -> int:
        """Send the form of a page with these fields; return the status."""
        status, page = self.get(path)
        token = TOKEN.search(page)
        if token is None:
            return status
        answer = self.client.post(path, data={"csrfmiddlewaretoken": token[1], **fields})
        if answer.is_error:
            return answer.status_code
        self.last_page = answer.text
        return 200 if "errornote" not in answer.text else 400

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
