from typing import Any

from django.core.management.base import CommandParser

from acl.documents import load
from devices.management.base import RegistryCommand
from rpc.rtio.as_code import import_document
from rpc.rtio.models import DeviceServiceRoute
from rpc.rtio.models.route import REFUSING_URL


class Command(RegistryCommand):
    help = (
        "Make RTIO servers and device service routes exactly what FILE says; - reads standard\n"
        "input. What FILE does not name is removed; RTIO servers keep a route that was removed\n"
        "until they restart. Either everything is done or nothing."
    )
    takes_reason = True

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", metavar="FILE", help="a YAML or JSON document")
        parser.add_argument("--dry-run", action="store_true", help="only show what would change")

    def handle(self, *args: Any, **options: Any) -> None:
        document = load(self.text(options["file"]))
        served = set(DeviceServiceRoute.objects.enabled().values_list("uri", flat=True))
        difference = import_document(document, dry_run=options["dry_run"])
        left = {route["uri"] for route in document["routes"] if route.get("enabled", True)}
        for uri in sorted(served - left):
            self.stderr.write(
                f"warning: RTIO servers keep the route {uri} until they restart; with the URL\n"
                f"{REFUSING_URL} in place of its own they refuse it within seconds."
            )
        self.answer(
            "\n".join(difference) or "Nothing to change.",
            {
                "dry_run": options["dry_run"],
                "changed": bool(difference),
                "difference": difference,
                "kept_by_rtio": sorted(served - left),
            },
        )
