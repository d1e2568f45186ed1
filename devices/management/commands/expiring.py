from collections.abc import Iterator
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone

from devices.extension_points import ENDINGS, Ending
from devices.management.base import RegistryCommand, duration
from devices.models import Certificate, CertificateAuthority, PreSharedKey, RevocationList
from devices.models.credentials.certificate import Pin
from devices.values.moments import in_utc


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
        ending = sorted(self._ending(now, now + options["within"]), key=attrgetter("ends"))
        lines = [f"{one.ends:%Y-%m-%d %H:%M}  {one.what}  {one.name}" for one in ending]
        self.answer(
            "\n".join(lines) or f"Nothing ends by {in_utc(now + options['within'])}.",
            {"expiring": [one._asdict() for one in ending]},
        )

    @staticmethod
    def _ending(now: datetime, until: datetime) -> Iterator[Ending]:
        certificates = Certificate.objects.live_at(now).filter(pin=Pin.CERTIFICATE)
        kinds: list[tuple[str, Any]] = [
            ("key", PreSharedKey.objects.live_at(now)),
            ("certificate", certificates),
        ]
        for what, rows in kinds:
            for row in rows.filter(not_after__lte=until).select_related("device"):
                yield Ending(what, f"{row.device} {row}", row.not_after)
        for find in ENDINGS:
            yield from find(now, until)
        for anchor in CertificateAuthority.objects.filter(enabled=True, not_after__lte=until):
            yield Ending("trust anchor", anchor.name, anchor.not_after)
        lists = RevocationList.objects.filter(authority__enabled=True, next_update__lte=until)
        for listed in lists.select_related("authority"):
            yield Ending("revocation list", listed.authority.name, listed.next_update)
