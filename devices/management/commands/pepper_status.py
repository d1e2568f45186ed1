"""Say which peppers are still needed."""

from typing import Any

from django.db.models import Count, Q
from django.utils import timezone

from devices.credentials import hashing
from devices.management.base import RegistryCommand
from devices.models import PreSharedKey


class Command(RegistryCommand):
    """`pepper_status`: how many keys hang on each pepper."""

    help = (
        "Count the keys that hang on each pepper.\n\n"
        "A key is re-made with the newest pepper when it is next verified. A pepper on which no\n"
        "live key hangs can leave PEPPERS. Exits with 1 where live keys hang on a pepper that is\n"
        "not configured: those keys are refused."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        """Print the counts, newest pepper first."""
        now = timezone.now()
        live = Q(revoked_at=None) & (Q(not_after=None) | Q(not_after__gt=now))
        counted = {
            pepper: {"keys": keys, "live": live_keys}
            for pepper, keys, live_keys in PreSharedKey.objects.order_by()
            .values_list("pepper")
            .annotate(keys=Count("pk"), live_keys=Count("pk", filter=live))
        }
        configured = list(hashing.peppers())
        peppers = [
            {"pepper": pepper, "state": self._state(pepper, configured)}
            | counted.get(pepper, {"keys": 0, "live": 0})
            for pepper in [*configured, *sorted(set(counted) - set(configured))]
        ]
        lost = [row for row in peppers if row["state"] == "missing" and row["live"]]
        width = max(len(str(row["pepper"])) for row in peppers)
        lines = [
            f"{row['pepper']:<{width}}  {row['state']:<8} {row['live']} live of {row['keys']} keys"
            for row in peppers
        ]
        lines += [
            f"pepper {row['pepper']} is not configured: its {row['live']} live keys are refused"
            for row in lost
        ]
        self.answer(options, "\n".join(lines), {"peppers": peppers}, yes=not lost)

    @staticmethod
    def _state(pepper: str, configured: list[str]) -> str:
        if pepper not in configured:
            return "missing"
        return "newest" if pepper == configured[0] else "old"
