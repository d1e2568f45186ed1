from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone

from devices.extension_points import ENDINGS
from devices.management.base import RegistryCommand, duration
from devices.models import Certificate, CertificateAuthority, PreSharedKey, RevocationList
from devices.models.credentials.certificate import Pin


class Command(RegistryCommand):
    help = (
        "List live credentials and tokens that end within a span, the soonest first, and trust\n"
        "anchors and revocation lists that do."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--within",
            type=duration,
            default=timedelta(days=30),
            metavar="SPAN",
            help="how far to look ahead: 12h, 30d, 8w (default: 30d)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        now = timezone.now()
        ending = sorted(self._ending(now, now + options["within"]), key=lambda row: row["ends"])
        lines = [f"{row['ends']:%Y-%m-%d %H:%M}  {row['what']}  {row['name']}" for row in ending]
        self.answer(
            options,
            "\n".join(lines) or f"Nothing ends by {now + options['within']:%Y-%m-%d %H:%M} UTC.",
            {"expiring": ending},
        )

    @staticmethod
    def _ending(now: datetime, until: datetime) -> Iterator[dict[str, Any]]:
        for key in (
            PreSharedKey.objects.live_at(now).filter(not_after__lte=until).select_related("device")
        ):
            yield {"what": "key", "name": f"{key.device} {key}", "ends": key.not_after}
        for find in ENDINGS:
            yield from (one._asdict() for one in find(now, until))
        certificates = Certificate.objects.live_at(now).filter(pin=Pin.CERTIFICATE)
        for pinned in certificates.filter(not_after__lte=until).select_related("device"):
            name = f"{pinned.device} {pinned}"
            yield {"what": "certificate", "name": name, "ends": pinned.not_after}
        for anchor in CertificateAuthority.objects.filter(enabled=True, not_after__lte=until):
            yield {"what": "trust anchor", "name": anchor.name, "ends": anchor.not_after}
        for listed in RevocationList.objects.filter(
            authority__enabled=True, next_update__lte=until
        ).select_related("authority"):
            name = listed.authority.name
            yield {"what": "revocation list", "name": name, "ends": listed.next_update}
