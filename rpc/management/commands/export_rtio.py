from typing import Any

from acl.documents import dump
from devices.management.base import RegistryCommand
from rpc.rtio.as_code import export_document


class Command(RegistryCommand):
    help = "Print all RTIO servers and device service routes as one YAML document."

    def handle(self, *args: Any, **options: Any) -> None:
        with self.printing():
            self.stdout.write(dump(export_document(), as_json=options["json"]), ending="")
