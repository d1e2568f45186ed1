"""Devices and the groups they belong to."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from django.core.exceptions import ValidationError
from django.db import models, transaction
from django.db.models import Case, Exists, F, OuterRef, Q, Subquery, Value, When
from django.db.models.functions import Coalesce, Least
from django.db.models.lookups import StartsWith
from django.db.models.sql.compiler import SQLCompiler
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from devices import addresses
from devices.database import last_used
from devices.history import Kind, Recorded, Records, bulk_delete, record
from devices.models.batches import locked
from devices.models.revocation import revoke_all
from devices.verdicts import Verdict

if TYPE_CHECKING:
    from devices.models.certificate import CertificateQuerySet
    from devices.models.pre_shared_key import PreSharedKeyQuerySet

END_OF_TIME = datetime.max.replace(tzinfo=UTC)
MAX_DEPTH = 8  # levels of groups, the top one included


class DeviceGroup(Recorded):
    """A named set of devices. Groups nest: a rule on a group covers the groups below it."""

    name = models.CharField(_("name"), max_length=100)
    parent = models.ForeignKey(
        "self",
        verbose_name=_("within"),
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="children",
        help_text=_("The group that this one lies in, as a building lies in a site."),
    )
    description = models.TextField(_("description"), blank=True)

    history = Records()

    class Meta:
        ordering = ["name"]
        verbose_name = _("device group")
        verbose_name_plural = _("device groups")
        constraints = [
            models.UniqueConstraint(
                fields=["name"],
                name="devices_group_name_unique",
                violation_error_message=_("A group of this name exists."),
            ),
            models.CheckConstraint(condition=~Q(name=""), name="devices_group_name_present"),
            models.CheckConstraint(
                condition=Q(parent=None) | ~Q(parent=F("pk")),
                name="devices_group_not_within_itself",
                violation_error_message=_("A group cannot lie within itself."),
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Save; a change of parent is checked again under a lock, so that no two moves cross."""
        if self.parent_id is None:
            super().save(*args, **kwargs)
            return
        with transaction.atomic():
            # Every move takes the same lock: without it, two moves could each be right alone.
            list(DeviceGroup.objects.select_for_update().order_by("pk").values_list("pk"))
            self._check_place(DeviceGroup.objects.get(pk=self.parent_id))
            super().save(*args, **kwargs)

    def clean(self) -> None:
        """Refuse a place in the tree that would make a cycle or be too deep."""
        super().clean()
        if self.parent is not None:
            self._check_place(self.parent)

    def _check_place(self, parent: "DeviceGroup") -> None:
        above = [parent.pk, *parent.ancestor_ids()]
        if self.pk is not None and self.pk in above:
            raise ValidationError(
                {"parent": _("A group cannot lie within itself or a group below it.")},
                code="cycle",
            )
        if len(above) + self._height() > MAX_DEPTH:
            raise ValidationError(
                {"parent": _("Groups nest at most %(deepest)d deep.") % {"deepest": MAX_DEPTH}},
                code="deep",
            )

    def ancestor_ids(self) -> list[int]:
        """Return the primary keys of the groups that this one lies in, nearest first."""
        found: list[int] = []
        above = self.parent_id
        while above is not None and above not in found:
            found.append(above)
            above = DeviceGroup.objects.values_list("parent_id", flat=True).get(pk=above)
        return found

    def _height(self) -> int:
        """Return how many levels hang on this group, itself included."""
        height, level = 1, [self.pk] if self.pk else []
        while level and height <= MAX_DEPTH:
            level = list(DeviceGroup.objects.filter(parent__in=level).values_list("pk", flat=True))
            height += bool(level)
        return height


class CredentialState(models.TextChoices):
    """What a device could show now, as staff need to know it."""

    NONE = "none", _("none")
    EXPIRED = "expired", _("expired")
    UNUSABLE = "unusable", _("not usable now")  # not valid yet, or a pepper is missing
    USABLE = "usable", _("usable")


def _credentials() -> tuple["PreSharedKeyQuerySet", "CertificateQuerySet"]:
    """Return the keys and the certificates of an outer statement's device."""
    from devices.models.certificate import Certificate
    from devices.models.pre_shared_key import PreSharedKey

    of_device = OuterRef("pk")
    return (
        PreSharedKey.objects.filter(device=of_device).order_by(),
        Certificate.objects.filter(device=of_device).order_by(),
    )


def credential_state(now: datetime) -> Case:
    """Return the expression of a device's CredentialState at that moment."""
    keys, certificates = _credentials()

    def either(verb: str) -> Q:
        return Q(Exists(getattr(keys, verb)(now))) | Q(Exists(getattr(certificates, verb)(now)))

    return Case(
        When(either("usable_at"), then=Value(CredentialState.USABLE)),
        When(either("live_at"), then=Value(CredentialState.UNUSABLE)),
        When(either("expired_at"), then=Value(CredentialState.EXPIRED)),
        default=Value(CredentialState.NONE),
        output_field=models.CharField(),
    )


def next_expiry(now: datetime) -> Least:
    """Return the expression of when the first live credential of a device ends."""
    first_key, first_certificate = (
        Subquery(
            rows.ending_before(END_OF_TIME, now=now).order_by("not_after").values("not_after")[:1]
        )
        for rows in _credentials()
    )
    return Least(Coalesce(first_key, first_certificate), Coalesce(first_certificate, first_key))


def first_group() -> Subquery:
    """Return the expression of the name of a device's first group, by name."""
    groups = DeviceGroup.objects.filter(devices=OuterRef("pk")).order_by("name")
    return Subquery(groups.values("name")[:1])


class Attempt(NamedTuple):
    """What is presented for an identifier: a secret, a certificate, or both."""

    identifier: str
    secret: str | None = None
    certificate: str | None = None


class DeviceQuerySet(models.QuerySet["Device"]):
    """Devices, and the question whether one is who it says."""

    def enabled(self) -> "DeviceQuerySet":
        """Return those that may connect and command at all."""
        return self.filter(enabled=True)

    def with_name_prefix(self, prefix: str) -> "DeviceQuerySet":
        """Return those whose name begins so, in upper or lower case; PostgreSQL has an index."""
        return self.filter(name__istartswith=prefix)

    def disabled(self) -> "DeviceQuerySet":
        """Return those that are refused whatever they present."""
        return self.filter(enabled=False)

    def never_seen(self) -> "DeviceQuerySet":
        """Return those that no credential ever admitted."""
        return self.filter(last_seen=None)

    def seen_since(self, moment: datetime) -> "DeviceQuerySet":
        """Return those that a credential admitted at that moment or later."""
        return self.filter(last_seen__gte=moment)

    def not_seen_since(self, moment: datetime) -> "DeviceQuerySet":
        """Return those that were admitted once, but not at that moment or later."""
        return self.filter(last_seen__lt=moment)

    def with_usable_credential(self, now: datetime) -> "DeviceQuerySet":
        """Return those with a key or a registered certificate that admits them at that moment.

        What a trust anchor alone vouches for leaves no row and is not seen here.
        """
        keys, certificates = _credentials()
        # A subquery for its value, not EXISTS: PostgreSQL would read all credentials into a hash
        # before it finds the first page of devices.
        first = (Subquery(rows.usable_at(now).values("pk")[:1]) for rows in (keys, certificates))
        return self.alias(usable=Coalesce(*first)).filter(usable__isnull=False)

    def without_usable_credential(self, now: datetime) -> "DeviceQuerySet":
        """Return those with no key and no registered certificate that admits them then."""
        keys, certificates = _credentials()
        return self.filter(~Exists(keys.usable_at(now)), ~Exists(certificates.usable_at(now)))

    def without_credential(self) -> "DeviceQuerySet":
        """Return those with no key and no registered certificate but revoked ones."""
        keys, certificates = _credentials()
        return self.filter(~Exists(keys.unrevoked()), ~Exists(certificates.unrevoked()))

    def with_expired_credentials_only(self, now: datetime) -> "DeviceQuerySet":
        """Return those whose keys and certificates, revoked ones aside, have all expired."""
        keys, certificates = _credentials()
        return self.filter(
            Exists(keys.expired_at(now)) | Exists(certificates.expired_at(now)),
            ~Exists(keys.live_at(now)),
            ~Exists(certificates.live_at(now)),
        )

    def credentials_ending_before(self, moment: datetime, *, now: datetime) -> "DeviceQuerySet":
        """Return those with a live key or certificate that ends before that moment."""
        keys, certificates = _credentials()
        return self.filter(
            Exists(keys.ending_before(moment, now=now))
            | Exists(certificates.ending_before(moment, now=now))
        )

    def with_credential_state(self, now: datetime) -> "DeviceQuerySet":
        """Add `credential_state`, a CredentialState; sorting by it visits every device."""
        return self.annotate(credential_state=credential_state(now))

    def with_next_expiry(self, now: datetime) -> "DeviceQuerySet":
        """Add `next_expiry`, when the first live credential ends; sorting visits every device."""
        return self.annotate(next_expiry=next_expiry(now))

    def set_enabled(self, *, enabled: bool) -> int:
        """Let these devices connect from now on, or refuse them; return how many changed."""
        changed = 0
        with transaction.atomic():
            for batch in locked(self.filter(enabled=not enabled)):
                for device in batch:
                    device.enabled = enabled
                Device.objects.filter(pk__in=[device.pk for device in batch]).update(
                    enabled=enabled, updated=timezone.now()
                )
                record(batch, Kind.CHANGED)
                changed += len(batch)
        return changed

    def add_to_group(self, group: DeviceGroup) -> int:
        """Put these devices into a group; return how many were not in it."""
        membership = Device.groups.through
        joined = 0
        with transaction.atomic():
            for batch in locked(self.exclude(groups=group)):
                rows = [membership(device=device, devicegroup=group) for device in batch]
                membership.objects.bulk_create(rows, ignore_conflicts=True)
                record(rows, Kind.CREATED)
                joined += len(rows)
        return joined

    def remove_from_group(self, group: DeviceGroup) -> int:
        """Take these devices out of a group; return how many were in it."""
        membership = Device.groups.through
        left = 0
        with transaction.atomic():
            for batch in locked(self.filter(groups=group)):
                rows = membership.objects.filter(
                    devicegroup=group, device__in=[device.pk for device in batch]
                )
                record(list(rows), Kind.DELETED)
                left += rows.delete()[0]
        return left

    def with_unrevoked_credential(self) -> "DeviceQuerySet":
        """Return those with a key or a registered certificate that nobody revoked."""
        keys, certificates = _credentials()
        return self.filter(Exists(keys.unrevoked()) | Exists(certificates.unrevoked()))

    def revoke_credentials(self, *, by: str, reason: str = "") -> tuple[int, int]:
        """Revoke all keys and certificates of these devices; return how many of each."""
        from devices.models.certificate import Certificate
        from devices.models.pre_shared_key import PreSharedKey

        devices = self.order_by().values("pk")
        with transaction.atomic():
            return (
                revoke_all(PreSharedKey.objects.filter(device__in=devices), by=by, reason=reason),
                revoke_all(Certificate.objects.filter(device__in=devices), by=by, reason=reason),
            )

    def delete_with_history(self) -> int:
        """Delete these devices with what hangs on them; return how many there were."""
        removed = 0
        with transaction.atomic():
            for batch in locked(self):
                bulk_delete(batch)
                removed += len(batch)
        return removed

    def for_export(self) -> "DeviceQuerySet":
        """Return devices as exports show them, by identifier: nothing of a secret comes along.

        Each has its groups at hand (`device.groups.all()`, by name) and counts of its live
        credentials, `live_keys` and `live_certificates`. Iterate with `in_batches`, or with
        `iterator(chunk_size=…)`, for constant memory. (docs/transfer.md)
        """
        keys, certificates = (rows.live_at(timezone.now()) for rows in _credentials())
        groups = DeviceGroup.objects.only("name").order_by("name")
        return (
            self.order_by("identifier")
            .prefetch_related(models.Prefetch("groups", groups))
            .annotate(live_keys=_count(keys), live_certificates=_count(certificates))
        )

    def in_batches(self, size: int) -> Iterator[list["Device"]]:
        """Yield devices by identifier, so many at a time, each batch with a query of its own.

        Memory is constant without a cursor that lives on the server, which no connection pooler
        need follow. A device that comes or goes meanwhile may or may not be seen.
        """
        ordered, last = self.order_by("identifier"), ""
        while batch := list(ordered.filter(identifier__gt=last)[:size]):
            yield batch
            last = batch[-1].identifier

    def authenticate(
        self,
        identifier: str,
        *,
        secret: str | None = None,
        certificate: str | None = None,
        now: datetime | None = None,
        record: bool = True,
        as_caller: bool = False,
    ) -> Verdict:
        """Answer whether `identifier` holds the credentials it presents: each must hold.

        `secret` is a pre-shared secret, `certificate` a PEM text (a chain may follow the leaf) or
        a DER certificate in base64. One statement for a secret, whatever the number of keys.
        The options and what is raised are those of `authenticate_many`.
        """
        if secret is None or certificate is not None:
            attempt = Attempt(identifier, secret, certificate)
            return self.authenticate_many([attempt], now=now, record=record, as_caller=as_caller)[0]
        from devices.models.pre_shared_key import PreSharedKey

        moment = now or timezone.now()
        verdict = PreSharedKey.objects.examine(identifier, secret, now=moment, as_caller=as_caller)
        if record and verdict.verified:
            last_used.recorder.note(verdict, moment)
        return verdict

    def authenticate_many(
        self,
        attempts: Sequence[Attempt],
        *,
        now: datetime | None = None,
        record: bool = True,
        as_caller: bool = False,
    ) -> list[Verdict]:
        """Answer the attempts in their order, with as many statements as one of them costs.

        `record` notes a success as evidence (last seen, last used); staff's own tries do not.
        `as_caller` counts failures apart: a stranger who calls the endpoints under a device's name
        must not use up the guesses of those who connect under it.
        Raises ValueError where nothing is presented, and a database's OperationalError where the
        registry cannot be asked. (contract: RTIO device verifier; Auth service, Authenticate.)
        """
        from devices.models.certificate import Certificate, CertificateAttempt
        from devices.models.pre_shared_key import PreSharedKey, SecretAttempt

        if any(one.secret is None and one.certificate is None for one in attempts):
            raise ValueError("present a secret, a certificate, or both")
        moment = now or timezone.now()
        held: list[list[Verdict]] = [[] for _ in attempts]
        secrets = {
            position: SecretAttempt(one.identifier, one.secret)
            for position, one in enumerate(attempts)
            if one.secret is not None
        }
        if secrets:
            examined = PreSharedKey.objects.examine_many(
                list(secrets.values()), now=moment, as_caller=as_caller
            )
            for position, verdict in zip(secrets, examined, strict=True):
                held[position].append(verdict)
        certificates = {
            position: CertificateAttempt(one.identifier, one.certificate)
            for position, one in enumerate(attempts)
            if one.certificate is not None and all(verdict.verified for verdict in held[position])
        }
        if certificates:
            if as_caller:
                examined = [
                    Certificate.objects.examine_caller(*attempt, now=moment)
                    for attempt in certificates.values()
                ]
            else:
                examined = Certificate.objects.examine_many(list(certificates.values()), now=moment)
            for position, verdict in zip(certificates, examined, strict=True):
                held[position].append(verdict)
        for verdicts in held:
            if record and verdicts[-1].verified:
                for verdict in verdicts:
                    last_used.recorder.note(verdict, moment)
        return [verdicts[-1] for verdicts in held]


def _count(credentials: models.QuerySet[Any]) -> Coalesce:
    """Return the expression of how many of the `_credentials` there are."""
    counted = credentials.values("device").values(total=models.Count("pk"))
    return Coalesce(Subquery(counted), 0)


class Device(Recorded):
    """An entity of the registry: something that connects, or part of the backend that asks."""

    class Kind(models.TextChoices):
        """A backend may call the machine endpoints; a device never."""

        DEVICE = "device", _("Device")
        BACKEND = "backend", _("Backend")

    identifier = models.CharField(
        _("identifier"),
        max_length=addresses.MAX_LENGTH,
        help_text=_(
            "The ID that the entity is known by, exactly: an RTIO device id such as "
            "cfa09baa-4913-4ad7-a936-2e26f9671b05, or a Cesanta ID such as "
            "//api.cesanta.com/device_123, without a component."
        ),
    )
    kind = models.CharField(
        _("kind"),
        max_length=16,
        choices=Kind,
        default=Kind.DEVICE,
        help_text=_("A backend may call the machine endpoints; a device never."),
    )
    name = models.CharField(_("name"), max_length=255, blank=True)
    description = models.TextField(_("description"), blank=True)
    groups = models.ManyToManyField(
        DeviceGroup, verbose_name=_("groups"), blank=True, related_name="devices"
    )
    enabled = models.BooleanField(
        _("enabled"),
        default=True,
        help_text=_("A disabled device is refused at its next request; nothing is lost."),
    )
    attributes = models.JSONField(
        _("attributes"), default=dict, blank=True, help_text=_("Anything else, as a JSON object.")
    )
    created = models.DateTimeField(_("created"), auto_now_add=True)
    updated = models.DateTimeField(_("updated"), auto_now=True)
    last_seen = models.DateTimeField(_("last seen"), null=True, blank=True, editable=False)

    objects = DeviceQuerySet.as_manager()
    history = Records(without=["created", "updated", "last_seen"])

    class Meta:
        ordering = ["identifier"]
        verbose_name = _("device")
        verbose_name_plural = _("devices")
        permissions = [("try_credential", _("Can try a device's credentials"))]
        constraints = [
            models.UniqueConstraint(
                fields=["identifier"],
                name="devices_device_identifier_unique",
                violation_error_message=_("A device with this identifier exists."),
            ),
            models.CheckConstraint(
                condition=~Q(identifier=""), name="devices_device_identifier_present"
            ),
            models.CheckConstraint(
                condition=Q(kind__in=["device", "backend"]), name="devices_device_kind_known"
            ),
        ]
        indexes = [
            models.Index(
                fields=["identifier"],
                condition=Q(kind="backend"),
                name="devices_device_backends",
            ),
        ]

    def __str__(self) -> str:
        return self.identifier

    def clean(self) -> None:
        """Store IDs only: an address is reduced to what it names or refused with the ID to use."""
        super().clean()
        if not isinstance(self.attributes, dict):
            raise ValidationError({"attributes": _("Attributes must be a JSON object.")})
        self._check_storable(self.identifier)
        if self.identifier and self._identifier_changed():
            self.identifier = self.registered_id(self.identifier)

    def _identifier_changed(self) -> bool:
        # A stored ID is decoded and may hold a dot that its address writes as %2E: it is not
        # parsed again when the device is merely edited.
        return not Device.objects.filter(pk=self.pk, identifier=self.identifier).exists()

    @staticmethod
    def _check_storable(text: str) -> None:
        if not addresses.is_storable(text) or any(
            not char.isprintable() or char.isspace() for char in text
        ):
            raise ValidationError(
                {
                    "identifier": _(
                        "An identifier has at most 255 characters, without spaces or control "
                        "characters."
                    )
                },
                code="unstorable",
            )

    @classmethod
    def registered_id(cls, address: str) -> str:
        """Return the ID that an address is registered under; raises ValidationError."""
        try:
            identifier, component = addresses.split(address)
        except addresses.AddressError as error:
            raise ValidationError({"identifier": str(error)}, code="address") from None
        if component is not None:
            raise ValidationError(
                {
                    "identifier": _(
                        "This is an address with the component “%(component)s”. The registry "
                        "stores IDs: use %(identifier)s."
                    )
                    % {"component": component, "identifier": identifier}
                },
                code="component",
            )
        cls._check_storable(identifier)
        return identifier


class BeginsWith(StartsWith):
    """`identifier__startswith`: case counts, and an index serves it, on SQLite as on PostgreSQL.

    Django's own is LIKE, which SQLite compares without case and therefore reads every row for.
    """

    def as_sqlite(self, compiler: SQLCompiler, connection: Any) -> tuple[str, tuple[Any, ...]]:
        """Ask for the range of identifiers that begin so."""
        column, parameters = self.process_lhs(compiler, connection)
        ends = f"{self.rhs}\U0010ffff"
        return f"{column} >= %s AND {column} < %s", (*parameters, self.rhs, *parameters, ends)


Device._meta.get_field("identifier").register_lookup(BeginsWith)
