"""Furnish a demo registry, so that every page has something to show.

`python -m tests.e2e.furnish`, in the environment of a server whose registry holds the demo alone.
"""

import random
from datetime import datetime, timedelta
from itertools import count

import django

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
dice = random.Random(17217)


def groups_and_devices(now: datetime) -> None:
    """Add two sites with buildings, and thermostats, valves and locks in them."""
    from devices.models import AttributeDefinition, Device, DeviceGroup, PreSharedKey

    for name, kind in (("floor", "number"), ("installed", "date"), ("battery", "yes-no")):
        AttributeDefinition.objects.create(name=name, type=kind, help="Used by the browser tests.")
    numbers = count(1)
    for site in ("Berlin", "Shenzhen"):
        above = DeviceGroup.objects.create(name=site, description=f"Everything in {site}.")
        for building in ("north", "south"):
            group = DeviceGroup.objects.create(name=f"{site}, {building}", parent=above)
            for kind in ("Thermostat", "Valve", "Door lock"):
                number = next(numbers)
                device = Device.objects.create(
                    identifier=f"{number:08x}-4913-4ad7-a936-{dice.getrandbits(48):012x}",
                    name=f"{kind} {building} {number}",
                    enabled=number % 7 > 0,
                    attributes={"floor": number % 4},
                )
                device.groups.add(group)
                ends = (None, now + 9 * DAY, now + 400 * DAY, now - 3 * DAY)[number % 4]
                if number % 5:
                    key, _secret = PreSharedKey.objects.issue(
                        device=device, label="factory", not_after=ends
                    )
                    if number == 6:
                        key.revoke(by="admin", reason="The device was stolen.")
                if number % 3:
                    seen = now - number * number * HOUR
                    Device.objects.filter(pk=device.pk).update(last_seen=seen)


def certificates() -> None:
    """Add a trust anchor and two pinned certificates, one of them about to end."""
    from devices.models import Certificate, CertificateAuthority, Device
    from tests.support import pki

    root = pki.authority("Factory root")
    CertificateAuthority.objects.register(presented=root.pem, name="Factory")
    for identifier, ends in (
        ("//api.cesanta.com/thermostat", pki.NOW + 12 * DAY),
        ("//api.cesanta.com/device_123", pki.NOW + 400 * DAY),
    ):
        certificate = pki.issue(identifier, ends=ends)
        Certificate.objects.register(
            device=Device.objects.get(identifier=identifier),
            presented=certificate.pem,
            label="factory",
        )


def permissions() -> None:
    """Add a command set, rules of groups, and an assertion."""
    from acl.models import Assertion, CommandSet
    from acl.notation import read_rule

    reading = CommandSet.objects.create(name="reading", description="Changes nothing.")
    for pattern in ("/v1/Config.Get", "/v1/Sensors.*"):
        reading.patterns.create(pattern=pattern)
    for effect, source, destination, command in (
        ("allow", "group:Berlin", "same-group", "set:reading"),
        ("allow", "group:Shenzhen", "group:Shenzhen, north", "/v1/Valve.Open"),
        ("deny", "everyone", "group:Berlin, south", "/v1/Door.Unlock"),
    ):
        rule = read_rule(effect=effect, source=source, destination=destination, command=command)
        rule.save()
    Assertion.objects.create(
        text="//api.cesanta.com/device_123 may /v1/Config.Get //api.cesanta.com/thermostat"
    )


def tokens(now: datetime) -> None:
    """Add a service account with two tokens, one of them narrowed, and an ended one of staff."""
    from django.contrib.auth.models import Group, User

    from authsite.accounts.tokens.rules import Rule
    from authsite.models import ApiToken, ServiceAccount
    from devices.models import DeviceGroup

    staff = User.objects.filter(is_superuser=True).earliest("pk")
    service = ServiceAccount.objects.create_account(
        "factory-shenzhen",
        answerable=staff,
        purpose="Provisions devices at the end of line 3.",
        roles=Group.objects.filter(name="Operator"),
    ).user
    see, change = "devices.view_device", "devices.change_device"
    rule = {"permission": change, "group": DeviceGroup.objects.get(name="Berlin").pk}
    narrowed, _text = ApiToken.objects.issue(
        owner=service,
        name="line 3",
        scopes=[see, change],
        networks=["10.2.0.0/16", "2001:db8:3::/48"],
        rules=[Rule.read({**rule, "per_hour": 20})],
        not_after=now + 80 * DAY,
    )
    ApiToken.objects.filter(pk=narrowed.pk).update(last_used=now, last_used_from="10.2.7.31")
    ApiToken.objects.issue(owner=service, name="backup", scopes=[see], not_after=now + 12 * DAY)
    ended, _text = ApiToken.objects.issue(owner=staff, name="laptop", scopes=[see, change])
    ended.revoke(by="admin", reason="The laptop was lost.")


def calls(now: datetime) -> None:
    """Add a day of calls: thermostats that connect, one that guesses, commands that are denied."""
    from devices.models import Device
    from rpc.models import BUCKET, CallCount, CallKey, CallRecord

    identifiers = list(Device.objects.values_list("identifier", flat=True))
    tallies = {}
    for ago in range(26):
        start = now - ago * HOUR
        bucket = int(start.timestamp()) // BUCKET
        first = float(bucket * BUCKET)
        last = min(first + BUCKET - 1, now.timestamp())
        for identifier in dice.sample(identifiers, 6):
            key = CallKey(
                bucket, "verifier", "credential", "127.0.0.1", identifier, "", "", "verified"
            )
            tallies[key] = CallCount(dice.randrange(1, 40), first, last)
        guesses = CallKey(
            *(bucket, "verifier", "credential", "127.0.0.1"),
            *("cfa09baa-4913-4ad7-a936-2e26f9671b05", "", "", "wrong-secret"),
        )
        tallies[guesses] = CallCount(dice.randrange(1, 60), first, last)
        launch = CallKey(
            *(bucket, "frames", "command", "//api.cesanta.com/cloud"),
            *("//api.cesanta.com/device_123", "//api.cesanta.com/misslecontrol"),
            *("/v1/Nuke.Launch", "no-rule"),
        )
        if ago % 3 == 0:
            tallies[launch] = CallCount(dice.randrange(1, 25), first, last)
    CallRecord.objects.add(tallies)


def webhooks(now: datetime) -> None:
    """Add a webhook that works and one that fails, and what they were sent."""
    from devices.events import delivering, stream
    from devices.events.kinds import Kind
    from devices.events.models import Delivery, Event, Webhook

    hooks = [
        Webhook(name="Tickets", url="https://tickets.example.com/hooks/authsite"),
        Webhook(
            name="Chat of operations",
            url="https://chat.example.com/incoming/3f1c",
            kinds=["device.disabled", "credential.revoked", "credential.expiring"],
        ),
    ]
    for hook in hooks:
        hook.new_secret()
        hook.save()
    hooks[0].test()
    Event.objects.record(
        Kind.DEVICE_DISABLED, {"identifier": "//api.cesanta.com/device_123", "enabled": False}
    )
    stream.number()
    delivering.fan_out()
    sent = {"attempts": 1, "tried_at": now, "duration": 84}
    Delivery.objects.filter(webhook=hooks[0]).update(state="delivered", code=204, **sent)
    Delivery.objects.filter(webhook=hooks[1]).update(
        code=500, problem="HTTP 500", answer="<h1>Oops</h1>", due_at=now + HOUR, **sent
    )


def main() -> None:
    """Add it all."""
    django.setup()
    from django.utils import timezone

    from devices import history

    now = timezone.now()
    with history.origin(history.Origin.ADMIN, user="admin"):
        groups_and_devices(now)
        certificates()
        permissions()
        tokens(now)
        webhooks(now)
    calls(now)


if __name__ == "__main__":
    main()
