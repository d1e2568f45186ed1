"""End the live sessions of devices at RTIO servers."""

from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.utils import timezone

from devices.management.base import RegistryCommand, fields_of, named
from rpc.rtio.models import Cause, EndingState, RtioServer, SessionEnding
from rpc.rtio.models.session_ending import can_be_ended
from rpc.rtio.session_ending import SessionEnder, request_endings

SECONDS = 15


class Command(RegistryCommand):
    help = (
        "End the live sessions of devices at every enabled RTIO server, and print what became of\n"
        "each. A device that may connect comes back within seconds. What cannot be ended now is\n"
        "retried by the server's processes for an hour."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("identifiers", nargs="+", metavar="DEVICE", help="a device's ID")
        parser.add_argument("--server", type=named, metavar="NAME", help="at this RTIO server only")
        parser.add_argument(
            "--wait",
            type=int,
            default=SECONDS,
            metavar="SECONDS",
            help="how long to wait for servers (default: %(default)s)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """End the sessions; exit with 1 where any is not ended."""
        devices = self.devices(options["identifiers"])
        for device in devices:
            if not can_be_ended(device.identifier):
                raise CommandError(
                    f"{device.identifier} is not 36 bytes long, or has a colon: RTIO's device "
                    "port takes no such id",
                    returncode=1,
                )
        servers = RtioServer.objects.enabled()
        if options["server"]:
            servers = servers.filter(name=options["server"])
        if not servers:
            raise CommandError("no such RTIO server is on record and enabled", returncode=1)
        started = timezone.now()
        request_endings(devices, Cause.ASKED, servers=list(servers))
        rows = SessionEnding.objects.filter(
            identifier__in=[device.identifier for device in devices],
            server__in=servers,
            requested_at__gte=started,
        )
        ender = SessionEnder()
        ender.run(lambda: not rows.waiting().exists(), options["wait"])
        ender.close()
        receipts = list(rows.select_related("server").order_by("identifier", "server__name"))
        self.answer(
            "\n".join(f"{row.identifier}: {row.server}: {row.receipt()}" for row in receipts),
            {
                "receipts": [
                    {
                        **fields_of(row, "identifier", "state", "attempts", "detail"),
                        "server": row.server.name,
                        "ended_after_ms": row.ended_after,
                    }
                    for row in receipts
                ]
            },
            yes=all(
                row.state in (EndingState.ENDED, EndingState.NOT_CONNECTED) for row in receipts
            ),
        )
