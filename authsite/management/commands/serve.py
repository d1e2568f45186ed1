import http.client
import json
import os
import resource
import select
import socket
import sys
import time
from ipaddress import ip_address
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from authsite.operations import postgresql
from devices.management.options import DJANGO_OPTIONS

BACKLOG = 2048  # connections that wait for accept(), a worker; the kernel caps it at somaxconn
CONNECTIONS = 4096  # open at once, a worker: idle ones of keep-alive clients count, too
STOPPING = 5  # seconds that running requests get on SIGTERM: RTIO waits no longer for any
FILES = 2 * CONNECTIONS
OWN_FILES = 64  # of a process that answers nobody yet: it has about 40
OWN_CONNECTIONS = 5  # of a process to the database, beside those of its threads
STARTING = 60  # seconds in which a server that starts is expected to answer
WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - where to ask, not to listen


class Command(BaseCommand):
    """Become a granian server in place of this process, so that signals reach it."""

    help = (
        "Serve the registry. Runs in the foreground; SIGTERM, SIGINT and SIGHUP end it once\n"
        "running requests are answered. Options that are not given come from the environment:\n"
        "HOST, PORT, WORKERS, THREADS."
    )
    requires_system_checks = "__all__"
    suppressed_base_arguments = DJANGO_OPTIONS
    stealth_options = ("notice",)  # for callers in Python: a password may be in it

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        from devices.management.base import closed_streams  # which needs Django set up

        super().__init__(*args, **kwargs | closed_streams())

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--host", help="IP address to listen on (default: 127.0.0.1)")
        parser.add_argument("--port", type=int, help="TCP port (default: 17217)")
        parser.add_argument("--workers", type=int, help="processes, one a core (default: 2)")
        parser.add_argument(
            "--threads",
            type=int,
            help="requests of machines that each process works on at once, and half as many of "
            "staff, each with a database connection (default: 8)",
        )
        parser.add_argument(
            "--backlog",
            type=int,
            default=BACKLOG,
            help="connections that may wait to be accepted, a process (default: %(default)s)",
        )

    def handle(
        self,
        *,
        host: str | None,
        port: int | None,
        workers: int | None,
        threads: int | None,
        backlog: int,
        notice: str = "",
        **_options: Any,
    ) -> None:
        """Check the address, then replace this process by the server's.

        The `notice` is printed last, once the server answers; {url} in it is the server's.
        """
        host = host or settings.HOST
        port = settings.PORT if port is None else port
        workers = settings.WORKERS if workers is None else workers
        threads = settings.THREADS if threads is None else threads
        for option, number, minimum in (
            ("--workers", workers, 1),
            ("--threads", threads, 1),
            ("--port", port, 1),
            ("--backlog", backlog, 128),
        ):
            if number < minimum:
                raise CommandError(f"{option} must be at least {minimum}", returncode=2)
        if threads > settings.MAX_THREADS:  # its workers are told by THREADS
            raise CommandError(f"--threads must be at most {settings.MAX_THREADS}", returncode=2)
        _check_free(_family(host), host, port, "--port or PORT")
        if settings.METRICS_PORT:
            _check_metrics(host, port)
        if not settings.JWT_SIGNING_KEYS:
            self.stdout.write("JWT_SIGNING_KEYS is not set: /jwtissuer is off (docs/rtio.md).")
        for complaint in postgresql.complaints():
            self.stderr.write(complaint)
        _allow_files(FILES, OWN_FILES + threads + threads // 2 + OWN_CONNECTIONS)
        # The server imports the project by name, from wherever it was started.
        paths = [str(settings.BASE_DIR), os.environ.get("PYTHONPATH", "")]
        os.environ |= {"THREADS": str(threads), "THREADS_FILE": ""}
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
        options = {
            "address": host,
            "port": port,
            "workers": workers,
            "backlog": backlog,
            "backpressure": CONNECTIONS,
            "workers_kill_timeout": STOPPING,
            "drain": settings.DRAIN_SECONDS,
            "log_format": settings.LOG_FORMAT,
            # Its warnings are about numbers chosen above. What else it tells is for a search.
            "log_level": "info" if settings.LOG_LEVEL == "DEBUG" else "error",
        }
        self.stdout.flush()
        sys.stderr.flush()
        announce(host, port, notice)
        program = [sys.executable, "-m", "authsite.operations.server", json.dumps(options)]
        os.execv(sys.executable, program)  # noqa: S606


def _family(host: str) -> socket.AddressFamily:
    try:
        return socket.AF_INET if ip_address(host).version == 4 else socket.AF_INET6  # noqa: PLR2004
    except ValueError:
        text = f"--host or HOST must be an IP address, not {host!r}"
        raise CommandError(text, returncode=2) from None


def _check_metrics(host: str, port: int) -> None:
    """Refuse an address of the metrics that is the server's, or that something listens on."""
    metrics, number = settings.METRICS_HOST, settings.METRICS_PORT
    own, asked = _resolved(host), _resolved(metrics)
    if number == port and (own & asked or (own | asked) & WILDCARDS.keys()):
        raise CommandError(f"METRICS_PORT is the server's own port {port}", returncode=2)
    family = socket.AF_INET6 if ":" in metrics else socket.AF_INET  # it may be a name
    _check_free(family, metrics, number, "METRICS_PORT or METRICS_HOST")


def _resolved(host: str) -> set[str]:
    """Return the IP addresses of a name or an address, each spelled in one way."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):  # nothing can listen there, as is said next
        return {host}
    return {str(address[0]) for *_kind, address in found}


def _check_free(family: socket.AddressFamily, host: str, port: int, chosen_by: str) -> None:
    """Refuse an address that something listens on.

    The workers share their port (SO_REUSEPORT), so that a second server of the same user
    would start beside the first and silently take half of its connections.
    """
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except (OSError, OverflowError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            raise CommandError(
                f"cannot listen on {host} port {port}: {why}. Choose another with {chosen_by}.",
                returncode=2,
            ) from None


def announce(host: str, port: int, notice: str) -> None:
    """Leave a process behind that says where the server is, once it answers.

    The notice is said in any case: nothing else knows the password in it.
    """
    alive, held = os.pipe()  # the server and its workers hold the writing end as long as they live
    if child := os.fork():
        os.close(alive)
        os.set_inheritable(held, True)
        os.waitpid(child, 0)
        return
    try:
        os.close(held)
        if os.fork() == 0:  # its parent ends now, so that the server has no child to wait for
            url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
            try:
                if answers(host, port, alive):
                    sys.stdout.write(f"Serving on {url}\n")
            finally:
                sys.stdout.write(notice.replace("{url}", url))
                sys.stdout.flush()
    finally:
        os._exit(0)


def answers(host: str, port: int, alive: int) -> bool:
    """Return True once the server answers there; False where it ended, or takes too long."""
    deadline = time.monotonic() + STARTING
    while time.monotonic() < deadline:
        connection = http.client.HTTPConnection(WILDCARDS.get(host, host), port, timeout=5)
        try:
            connection.request("GET", "/livez")  # the journal counts what is asked elsewhere
            connection.getresponse()
        except (OSError, http.client.HTTPException):
            ended, _, _ = select.select([alive], [], [], 0.05)
            if ended:
                return False
        else:
            return True
        finally:
            connection.close()
    return False


def _allow_files(wanted: int, needed: int) -> None:
    """Raise this process's limit of open files, as far as it may: each connection is one.

    Refuses to serve where not even those of a process are allowed that nobody asks.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise CommandError(
            f"each process may have {hard} files open, and needs {needed} before anybody asks it: "
            "raise the limit (ulimit -n; LimitNOFILE of systemd), or lower THREADS.",
            returncode=2,
        )
