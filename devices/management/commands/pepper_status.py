from typing import Any

from django.db.models import Count
from django.utils import timezone

from devices.credentials import hashing
from devices.extension_points import PEPPERED
from devices.management.base import RegistryCommand
from devices.models import PreSharedKey


class Command(RegistryCommand):
    help = (
        "Count the keys of devices, the tokens of the API and the signing secrets of webhooks\n"
        "that need each pepper.\n\n"
        "Each is stored with the newest pepper when it is next verified, and those of webhooks\n"
        "when `deliver` starts. A pepper that nothing live needs can be taken out of PEPPERS.\n"
        "Exits with 1 if something live needs a pepper that is not configured: it is refused."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        models: dict[str, Any] = {"keys": PreSharedKey, **PEPPERED}
        live = {name: self._counted(model, live=True) for name, model in models.items()}
        found = {name: self._counted(model, live=False) for name, model in models.items()}
        used = {pepper for counts in found.values() for pepper in counts}
        configured = list(hashing.peppers())
        peppers: list[dict[str, Any]] = [
            {
                "pepper": pepper,
                "state": self._state(pepper, configured),
                "live": live["keys"].get(pepper, 0),
                **{f"live_{name}": live[name].get(pepper, 0) for name in PEPPERED},
                **{name: found[name].get(pepper, 0) for name in models},
            }
            for pepper in [*configured, *sorted(used - set(configured))]
        ]
        width = max(len(str(row["pepper"])) for row in peppers)
        lines, lost = [], []
        for row in peppers:
            pepper = row["pepper"]
            counts = [f"{live[name].get(pepper, 0)} live of {row[name]} {name}" for name in models]
            lines.append(f"{pepper:<{width}}  {row['state']:<8} {', '.join(counts)}")
            lost += [
                f"pepper {pepper} is not configured: its {live[name][pepper]} live {name} "
                "are refused"
                for name in models
                if row["state"] == "missing" and live[name].get(pepper)
            ]
        self.answer("\n".join([*lines, *lost]), {"peppers": peppers}, yes=not lost)

    @staticmethod
    def _counted(model: Any, *, live: bool) -> dict[str, int]:
        rows = model.objects.live_at(timezone.now()) if live else model.objects.all()
        return dict(rows.order_by().values_list("pepper").annotate(Count("pk")))

    @staticmethod
    def _state(pepper: str, configured: list[str]) -> str:
        if pepper not in configured:
            return "missing"
        return "newest" if pepper == configured[0] else "old"
