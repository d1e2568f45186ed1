"""Give what a furnished registry holds the worst names that it accepts.

`python -m tests.e2e.hostile`, in the environment of a server whose registry holds the demo alone;
it furnishes the demo first. The first row of each kind, whose pages are looked at, has a name that
is everything at once.
"""

from typing import Any

import django

HEBREW = "\u05d7\u05d9\u05d9\u05e9\u05df (\u05e6\u05e4\u05d5\u05df) 7"
ARABIC = "\u062b\u0631\u0645\u0648\u0633\u062a\u0627\u062a 12"
EMOJI = "\U0001f469\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466\U0001f525\U0001f3f3\ufe0f"
STACKED = "Z" + "\u0351\u036c\u0326\u0318" * 5 + "a" + "\u0300\u0301\u0302" * 4  # combining marks
ALIKE = "\u0422h\u0435rm\u043est\u0430t"  # Cyrillic among Latin letters
NAMES = [HEBREW, ARABIC, EMOJI, STACKED, ALIKE, "<b>&amp;\"'</b>", "{{ 7|add:7 }} %s %(n)d {0}"]
EVERYTHING = f"{HEBREW.replace(' ', '')}{EMOJI}{STACKED}{ALIKE}<i>&amp;%s{{0}}"


def long(most: int) -> str:
    """Return a name of that length without a space, which is everything at once."""
    return (EVERYTHING + "Wm" * most)[:most]


def rename(rows: Any, field: str, most: int, *, also: str = "") -> None:
    """Give the rows of a model names, as staff would; the first one the longest."""
    for number, row in enumerate(rows.order_by("pk")[: len(NAMES) + 1]):
        name = long(most) if number == 0 else NAMES[number - 1][:most]
        setattr(row, field, name)
        if also:
            setattr(row, also, name if number else long(255))
        row.full_clean()
        row.save()


def main() -> None:
    """Furnish, then rename."""
    django.setup()
    from django.contrib.auth.models import Group, User

    from acl.models import Assertion, CommandPermission, CommandSet
    from authsite.models import ApiToken, ServiceAccount
    from devices import history
    from devices.models import (
        AttributeDefinition,
        Certificate,
        CertificateAuthority,
        Device,
        DeviceGroup,
        PreSharedKey,
        SavedFilter,
        Webhook,
    )
    from rpc.models import CallRecord
    from rpc.rtio.models import DeviceServiceRoute, RtioServer
    from tests.e2e import furnish

    furnish.main()
    with history.origin(history.Origin.ADMIN, user="admin", reason=f"{HEBREW} {long(200)}"):
        AttributeDefinition.objects.create(
            name=long(90),
            type="choice",
            choices=f"{long(60)}\n{HEBREW}",
            is_filter=True,
            help=ARABIC,
        )
        AttributeDefinition.objects.create(name=HEBREW, type="text", is_filter=True)
        rename(Device.objects, "name", 255, also="description")
        first = Device.objects.order_by("pk")[0]
        first.attributes = {long(90): long(60), HEBREW: long(255), "list": [long(80)]}
        first.save()
        Device.objects.create(identifier=f"//{'x' * 253}", name=long(255), kind="backend")
        rename(DeviceGroup.objects, "name", 100, also="description")
        first.groups.set(DeviceGroup.objects.all())
        rename(PreSharedKey.objects.filter(revoked_at=None), "label", 100)
        rename(Certificate.objects, "label", 100)
        rename(CertificateAuthority.objects, "name", 100)
        rename(CommandSet.objects, "name", 100, also="description")
        rename(CommandPermission.objects, "note", 255)
        rule = CommandPermission(
            effect="deny",
            source_kind="group",
            source_group=DeviceGroup.objects.order_by("pk")[0],
            destination_kind="device",
            destination_device=Device.objects.get(kind="backend", identifier__startswith="//x"),
            pattern=f"/v1/{'Valve' * 50}",
            note=long(255),
        )
        rule.full_clean()
        rule.save()
        rename(Assertion.objects, "note", 255)
        rename(ApiToken.objects.filter(revoked_at=None), "name", 100)
        rename(ServiceAccount.objects, "purpose", 255)
        rename(Webhook.objects, "name", 100)
        rename(Group.objects.filter(name="Operator"), "name", 150)
        RtioServer.objects.create(name=long(100), host="10.1.0.9", port=17217)
        DeviceServiceRoute.objects.create(
            uri=f"/{'r' * 127}", url=f"http://example.com/{'u' * 200}", note=long(255)
        )
        staff = User.objects.get(username="admin")
        staff.first_name = long(150)
        staff.save()
        for name in (long(100), HEBREW):
            SavedFilter.objects.create(
                owner=staff, listed="devices.device", name=name, query="q=*7", is_shared=True
            )
    CallRecord.objects.filter(pk=1).update(subject=long(255), destination=HEBREW, command="/" * 255)


if __name__ == "__main__":
    main()
