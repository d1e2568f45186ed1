"""What `seed_demo --furnish` adds: a small fleet on which every page has something to show.

The same rows each time, but for secrets, certificates and moments, which count from now. Never for
a registry that is to be trusted: `seed_demo` puts it into an empty one alone.
"""

import math
import random
from contextvars import Context
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from acl.engine.decisions import Reason
from acl.models import Assertion, CommandSet
from acl.notation import read_rule
from devices.events.kinds import Kind
from devices.events.models import Delivery, DeliveryState, Event, Webhook
from devices.history.context import Origin, origin
from devices.models import (
    AttributeDefinition,
    AttributeType,
    Certificate,
    CertificateAuthority,
    Device,
    DeviceGroup,
    PreSharedKey,
)
from devices.models.credentials.state import has_expired_credentials_only, has_usable_credential
from devices.verdicts import Outcome
from rpc.models import ALLOWING, BUCKET, CallCount, CallKey, CallReason, CallRecord
from rpc.rtio.models import Cause, EndingState, RtioServer, SessionEnding

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
DAYS = 3  # of calls
SEED = 17217
GUESSED = 7  # hours, in which somebody tried more and more secrets of one device
DISABLED, KEYLESS = 3, 7  # of 17 devices, of 13
STOLEN, ROTATED = 5, 13  # devices
CERTIFIED = (33, 46)  # devices without a key, which certificates admit
SITES = {"Berlin": ("north", "south"), "Shenzhen": ("tower", "garage"), "Zürich": ("lake",)}
KINDS = ("Thermostat", "Valve", "Door lock", "Meter", "Gateway")
EACH = 2  # devices of a kind in a building
FLOORS = ("ground floor", "upstairs")
MOUNTINGS = ("wall", "ceiling", "rail")
CLOUD, CALLER = "//api.cesanta.com/cloud", "127.0.0.1"
THERMOSTAT, DEVICE = "//api.cesanta.com/thermostat", "//api.cesanta.com/device_123"


class Party(NamedTuple):
    """A certificate and the private key of its subject."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()


def furnish(now: datetime) -> None:
    """Add groups, devices, credentials, rules, calls, sessions, and a webhook that fails.

    The history has them as requests of staff, not as one change of the command that calls this.
    """
    Context().run(_furnish, now)  # without the origin, and so the batch, of that command


def _furnish(now: datetime) -> None:
    dice = random.Random(SEED)  # noqa: S311 (a demo that is the same each time)
    with origin(Origin.ADMIN, user="grace", reason="The fleet of the demo"):
        _attributes()
        devices = _devices(now, dice)
    with origin(Origin.ADMIN, user="grace", reason="Certificates of the factory"):
        _certificates(now, devices)
    with origin(Origin.ADMIN, user="grace"):
        _rules(now)
    with origin(Origin.ADMIN, user="grace"):
        server = RtioServer.objects.create(
            name="RTIO, Berlin", host="127.0.0.1", backend=Device.objects.get(identifier=CLOUD)
        )
    with origin(Origin.ADMIN, user="alan"):
        lobby = Device.objects.get(identifier=THERMOSTAT)
        lobby.name = "Thermostat of the lobby"
        lobby.save(update_fields=["name"])
    with origin(Origin.ADMIN, user="alan", reason="Reported as stolen"):
        devices[STOLEN].keys.get().revoke(by="alan", reason="Reported as stolen")
        _sessions(now, server, devices[STOLEN])
    _webhook(now)
    _calls(now, dice, devices)


def _attributes() -> None:
    for name, kind, fields in (
        ("floor", AttributeType.NUMBER, {"help": "From the ground up; 0 is at the street."}),
        ("mounting", AttributeType.CHOICE, {"choices": "\n".join(MOUNTINGS)}),
        ("installed", AttributeType.DATE, {}),
        ("battery", AttributeType.YES_NO, {"help": "Whether it runs without the mains."}),
    ):
        AttributeDefinition.objects.create(name=name, type=kind, **fields)


def _devices(now: datetime, dice: random.Random) -> list[Device]:
    made: list[Device] = []
    for site, buildings in SITES.items():
        above = DeviceGroup.objects.create(name=site, description=f"Everything in {site}.")
        for building in buildings:
            group = DeviceGroup.objects.create(name=f"{site}, {building}", parent=above)
            floors = [
                DeviceGroup.objects.create(name=f"{site}, {building}, {floor}", parent=group)
                for floor in FLOORS
            ]
            for kind in KINDS * EACH:
                number = len(made)
                device = Device.objects.create(
                    identifier=f"{dice.getrandbits(32):08x}-4913-4ad7-a936-{number:012x}",
                    name=f"{kind} {building} {number + 1}",
                    enabled=number % 17 != DISABLED,
                    attributes={
                        "floor": number % 4,
                        "model": f"{kind[:2].upper()}-{number % 3}",
                        "installed": f"{now - 40 * number * DAY:%Y-%m-%d}",
                        "mounting": MOUNTINGS[number % 3],
                        **({"battery": number % 5 == 1} if number % 4 else {}),
                    },
                )
                device.groups.add(floors[number % 4 // 2] if number % 3 else group)
                _keys(device, number, now)
                if number % 6:
                    seen = now - HOUR * (number % 5) ** 3 - timedelta(minutes=number)
                    Device.objects.filter(pk=device.pk).update(last_seen=seen)
                made.append(device)
    return made


def _keys(device: Device, number: int, now: datetime) -> None:
    """Give most devices a key: endless, lasting, about to end, ended; one is being rotated."""
    if number % 13 == KEYLESS:
        return
    months = now + (40 + 7 * number) * DAY  # some end in each season of the year to come
    ends = {2: now + 9 * DAY, 4: months, 6: months, 8: now + 23 * DAY, 9: now - 3 * DAY}
    not_after = ends.get(number % 11)
    PreSharedKey.objects.issue(device=device, label="factory", not_after=not_after)
    if number == ROTATED:  # its old key ends, another lasts
        PreSharedKey.objects.issue(device=device, label="rotated")


def _party(subject: str, now: datetime, ends: datetime, issuer: Party | None = None) -> Party:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer.certificate.subject if issuer else name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - 30 * DAY)
        .not_valid_after(ends)
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=issuer is not None,
                key_cert_sign=issuer is None,
                crl_sign=issuer is None,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
    )
    return Party(builder.sign(issuer.key if issuer else key, hashes.SHA256()), key)


def _certificates(now: datetime, devices: list[Device]) -> None:
    """Add a trust anchor whose list lapses in three days, and pinned certificates."""
    root = _party("Demo factory root", now, now + 3650 * DAY)
    anchor = CertificateAuthority.objects.register(presented=root.pem, name="Factory")
    listed = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(root.certificate.subject)
        .last_update(now - 4 * DAY)
        .next_update(now + 3 * DAY)
        .add_extension(x509.CRLNumber(1), critical=False)
        .add_revoked_certificate(
            x509.RevokedCertificateBuilder()
            .serial_number(17217)
            .revocation_date(now - 5 * DAY)
            .build()
        )
        .sign(root.key, hashes.SHA256())
    )
    anchor.load_list(listed.public_bytes(serialization.Encoding.PEM), by="grace", now=now)
    for identifier, ends in (
        (THERMOSTAT, now + 12 * DAY),
        (DEVICE, now + 400 * DAY),
        *((devices[number].identifier, now + 6 * number * DAY) for number in CERTIFIED),
    ):
        Certificate.objects.register(
            device=Device.objects.get(identifier=identifier),
            presented=_party(identifier, now, ends, root).pem,
            label="factory",
        )


def _rules(now: datetime) -> None:
    reading = CommandSet.objects.create(name="reading", description="Changes nothing.")
    for pattern in ("/v1/Config.Get", "/v1/Sensors.*"):
        reading.patterns.create(pattern=pattern)
    for effect, source, destination, command in (
        ("allow", "group:Berlin", "same-group", "set:reading"),
        ("allow", "group:Shenzhen", "group:Shenzhen, tower", "/v1/Valve.Open"),
        ("allow", "group:Zürich", "group:Zürich", "/v1/*"),
        ("deny", "everyone", "group:Berlin, south", "/v1/Door.Unlock"),
    ):
        add_rule(effect=effect, source=source, destination=destination, command=command)
    monday = (now + (7 - now.weekday()) * DAY).replace(hour=0, minute=0, second=0, microsecond=0)
    add_rule(
        effect="allow",
        source=DEVICE,
        destination="group:Zürich",
        command="/v1/OTA.Update",
        valid_from=monday + 20 * HOUR,
        valid_until=monday + 28 * HOUR,
        note="The maintenance of next Monday night.",
    )
    for text in (
        f"{DEVICE} may /v1/Config.Get {THERMOSTAT}",
        f"{DEVICE} may not /v1/Config.Erase {THERMOSTAT}",
    ):
        Assertion.objects.create(text=text, note="What the demo relies on.")


def add_rule(**fields: Any) -> None:
    """Add a rule, in the words of `acl.notation`."""
    rule = read_rule(**fields)
    rule.full_clean()
    rule.save()


def _sessions(now: datetime, server: RtioServer, stolen: Device) -> None:
    """Add a session that was ended, and that of a stolen device that could not be."""
    for device, state, detail in (
        (stolen, EndingState.GIVEN_UP, "the server could not be reached"),
        (Device.objects.get(identifier=DEVICE), EndingState.ENDED, ""),
    ):
        SessionEnding.objects.create(
            identifier=device.identifier,
            device=device,
            server=server,
            cause=Cause.REVOKED if detail else Cause.ROTATED,
            requested_at=now - 2 * HOUR,
            due_at=now - HOUR,
            requested_by="alan",
            origin=Origin.ADMIN,
            state=state,
            detail=detail,
            attempts=9 if detail else 1,
        )


def _webhook(now: datetime) -> None:
    """Add a webhook that was switched off, since nothing took its messages for three days."""
    problem = "503 Service Unavailable"
    kinds = [Kind.DEVICE_DISABLED, Kind.CREDENTIAL_REVOKED]
    webhook = Webhook(name="Tickets", url="https://tickets.example.com/authsite", kinds=kinds)
    with origin(Origin.ADMIN, user="grace", reason="Stolen devices become tickets"):
        webhook.new_secret()
        webhook.save()
    for event in Event.objects.filter(kind__in=kinds):
        Delivery.objects.create(
            webhook=webhook,
            event=event,
            state=DeliveryState.FAILED,
            attempts=19,
            due_at=now - HOUR,
            give_up_at=now - HOUR,
            tried_at=now - HOUR,
            code=503,
            problem=problem,
            answer="Down for maintenance.",
            duration=212,
        )
    webhook.switch_off(problem)


def _calls(now: datetime, dice: random.Random, devices: list[Device]) -> None:
    """Add days of calls with their ups and downs, guesses at one device, and every refusal."""
    counts: dict[CallKey, CallCount] = {}

    def count(ago: int, calls: int, *key: str) -> None:
        bucket = int((now - ago * HOUR).timestamp()) // BUCKET
        first = float(bucket * BUCKET)
        last = min(first + BUCKET - 1, now.timestamp())
        endpoint, question, caller, subject, to, command, reason = key
        found = CallKey(bucket, endpoint, question, caller, subject, to, command, reason)
        counts[found] = CallCount(calls, first, last)

    enabled = Device.objects.enabled().order_by("pk").values_list("identifier", flat=True)
    usable = enabled.filter(has_usable_credential(now))
    live = list(usable.filter(pk__in=[device.pk for device in devices]))
    locked_out = list(enabled.filter(has_expired_credentials_only(now)))
    for ago in range(24 * DAYS):
        hour = (now - ago * HOUR).hour
        wave = 1.3 + math.sin(math.pi * (hour - 6) / 12)  # busier by day
        for identifier in dice.sample(live, 8):
            calls = int(wave * dice.randrange(8, 24))
            count(ago, calls, "verifier", "credential", CALLER, identifier, "", "", "verified")
        for identifier in locked_out:
            calls = dice.randrange(1, 4)
            count(ago, calls, "verifier", "credential", CALLER, identifier, "", "", "expired")
        if ago < GUESSED:
            guesses = 20 * (GUESSED - ago)
            count(ago, guesses, "verifier", "credential", CALLER, live[1], "", "", "wrong-secret")
        if ago % 3 == 0:
            count(
                *(ago, dice.randrange(2, 12), "frames", "command", CLOUD, DEVICE),
                *("//api.cesanta.com/misslecontrol", "/v1/Nuke.Launch", "no-rule"),
            )
    refused = [
        *(("credential", outcome.value) for outcome in Outcome),
        *(("command", reason.value) for reason in Reason),
        *(("call", reason.value) for reason in CallReason),
    ]
    for number, (question, reason) in enumerate(one for one in refused if one[1] not in ALLOWING):
        subject = live[number % len(live)]
        to, what = (THERMOSTAT, "/v1/Config.Set") if question == "command" else ("", "")
        endpoint = "frames" if question == "command" else "verifier"
        calls = 1 + number % 4
        count(1 + number % 40, calls, endpoint, question, CALLER, subject, to, what, reason)
    CallRecord.objects.add(counts)
    seen: dict[str, float] = {}
    for key, calls_alike in counts.items():
        if key.reason == "verified":
            seen[key.subject] = max(seen.get(key.subject, 0), calls_alike.last)
    for identifier, last in seen.items():
        moment = datetime.fromtimestamp(last, now.tzinfo)
        Device.objects.filter(identifier=identifier).update(last_seen=moment)
        for model in (PreSharedKey, Certificate):
            newest = model.objects.usable_at(now).filter(device__identifier=identifier)
            model.objects.filter(pk=newest.order_by("-pk").values("pk")[:1]).update(
                last_used=moment
            )
