"""Devices: the entities of the registry."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from django.core.exceptions import ValidationError
from django.db import models, transaction
from django.db.models import OuterRef, Q, Subquery
from django.db.models.functions import Coalesce
from django.db.models.lookups import StartsWith
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from devices.database.text_search import InLatin
from devices.events.recording import devices_leave
from devices.extension_points import AccessEnd, end_access
from devices.history import ChangeType, Recorded, Records, bulk_delete, locked, record
from devices.models.attribute_definition import AttributeDefinition
from devices.models.group import DeviceGroup, is_in_group_or_below
from devices.values import addresses, attributes, text

MAX_NAMED = 3  # identifiers in a warning
RTIO_MIN_LENGTH, RTIO_MAX_LENGTH = 30, 40  # characters of a device id, by RTIO's specification
RTIO_BYTES = 36  # of a device id, as RTIO's servers take them


def first_group() -> Subquery:
    """Return the expression of the name of a device's first group, by name."""
    groups = DeviceGroup.objects.filter(devices=OuterRef("pk")).order_by("name")
    return Subquery(groups.values("name")[:1])


def _count_live(credentials: str) -> Coalesce:
    """Return the expression of how many live credentials of a kind a device has."""
    rows: Any = Device._meta.get_field(credentials).related_model
    live = rows.objects.filter(device=OuterRef("pk")).order_by().live_at(timezone.now())
    return Coalesce(Subquery(live.values("device").values(total=models.Count("pk"))), 0)


class DeviceQuerySet(models.QuerySet["Device"]):
    def delete(self) -> tuple[int, dict[str, int]]:
        """Delete them, and what depends on them; `delete_with_history` does so in batches."""
        with transaction.atomic(), devices_leave():
            end_access(self, AccessEnd.DELETED)
            return super().delete()

    delete.queryset_only = True  # type: ignore[attr-defined]
    delete.alters_data = True  # type: ignore[attr-defined]

    def enabled(self) -> "DeviceQuerySet":
        """Return those that may connect and command at all."""
        return self.filter(enabled=True)

    def called(self, text: str) -> "Device | None":
        """Return the device of this whole identifier; a UUID is found in capitals, too."""
        rows = self.filter(identifier__in={text, text.lower()}).order_by()
        found = {device.identifier: device for device in rows}
        return found.get(text) or found.get(text.lower())

    def id_of(self, text: str) -> str:
        """Return the ID that staff mean: a registered one that is written so, else the address's.

        Pages and commands show IDs as they are stored. One with a dot or a percent sign in its last
        segment would otherwise be read as the address of another device. Raises AddressError.
        """
        try:
            identifier = addresses.entity_id(text)
        except addresses.AddressError:
            identifier = ""
        if identifier == text:
            return text
        if addresses.is_storable(text) and self.filter(identifier=text).exists():
            return text
        return identifier or addresses.entity_id(text)

    def at(self, address: str) -> "Device":
        """Return the device of an ID or an address; raises ValidationError where there is none."""
        try:
            identifier = self.id_of(address)
        except addresses.AddressError as error:
            raise ValidationError(str(error)) from None
        rows = (
            self.filter(identifier=identifier) if addresses.is_storable(identifier) else self.none()
        )
        device = rows.first()
        if device is None:
            raise ValidationError(_("No device “%s” is registered.") % identifier)
        return device

    def easily_taken_for(self, identifiers: Iterable[str]) -> dict[str, list[str]]:
        """Return which of these identifiers look like others of these devices, and like which.

        Alike are texts that differ in case, in accents composed or not, in letters of other
        scripts (`text.variants`), whichever of the two has them. One query; it reads all
        identifiers, which have no index without case.
        """
        looks: dict[str, list[str]] = {}  # how a device may be called, and what looks so
        for identifier in identifiers:
            for look in {*text.variants(identifier), identifier.lower()}:
                looks.setdefault(look, []).append(identifier)
        lower = [look for look in looks if look == look.lower()]
        rows = self.annotate(latin=InLatin("identifier")).filter(
            Q(identifier__in=looks) | Q(latin__in=lower)
        )
        found: dict[str, list[str]] = {}
        for registered in rows.values_list("identifier", flat=True):
            forms = {registered, registered.lower(), text.in_latin(registered)}
            alike = {identifier for form in forms for identifier in looks.get(form, ())}
            for identifier in alike - {registered}:
                found.setdefault(identifier, []).append(registered)
        return found

    def in_group_or_below(self, group: int) -> "DeviceQuerySet":
        """Return those in the group of a key, or in one that lies in it, each once.

        Rules on the group are about these. (docs/permissions.md)
        """
        members = Device.groups.through.objects.filter(is_in_group_or_below("devicegroup", group))
        return self.filter(pk__in=members.values("device"))  # SQLite begins with the members so

    def with_name_prefix(self, prefix: str) -> "DeviceQuerySet":
        """Return those whose name begins so, in upper or lower case; PostgreSQL has an index."""
        return self.filter(name__istartswith=prefix)

    def disabled(self) -> "DeviceQuerySet":
        """Return those that are refused whatever they present."""
        return self.filter(enabled=False)

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
                record(batch, ChangeType.CHANGED)
                if not enabled:
                    end_access(batch, AccessEnd.DISABLED)
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
                record(rows, ChangeType.CREATED)
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
                record(list(rows.select_for_update().order_by("pk")), ChangeType.DELETED)
                left += rows.delete()[0]
        return left

    def move_to_group(self, group: DeviceGroup, *, leaving: DeviceGroup) -> int:
        """Put those of these devices that are in a group into another one; return how many left."""
        left = 0
        with transaction.atomic():
            for batch in locked(self.filter(groups=leaving)):
                devices = Device.objects.filter(pk__in=[device.pk for device in batch])
                devices.add_to_group(group)
                left += devices.remove_from_group(leaving)
        return left

    def delete_with_history(self) -> int:
        """Delete these devices with what depends on them; return how many there were."""
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
        groups = DeviceGroup.objects.only("name").order_by("name")
        return (
            self.order_by("identifier")
            .prefetch_related(models.Prefetch("groups", groups))
            .annotate(live_keys=_count_live("keys"), live_certificates=_count_live("certificates"))
        )

    def in_batches(self, size: int) -> Iterator[list["Device"]]:
        """Yield devices by identifier, so many at a time, each batch with a query of its own.

        Memory is constant without a cursor that lives on the server, which no connection pooler
        need follow. A device that comes or goes meanwhile may or may not be seen. Each comes once,
        also where a filter by groups or credentials finds it several times.
        """
        ordered, last = self.order_by("identifier"), ""
        while batch := list(ordered.filter(identifier__gt=last)[:size]):
            yield list(dict.fromkeys(batch))
            last = batch[-1].identifier


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
    bulk_fields = ("kind", "name", "description", "enabled", "attributes")
    restored_fields = bulk_fields

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
                fields=["identifier"], condition=Q(kind="backend"), name="devices_device_backends"
            ),
            models.Index(fields=["id"], condition=Q(enabled=False), name="devices_device_disabled"),
        ]

    def __str__(self) -> str:
        return self.identifier

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Save; where that disables the device, its access ends."""
        fields = kwargs.get("update_fields")
        disables = not (self._state.adding or self.enabled) and (
            fields is None or "enabled" in fields
        )
        with transaction.atomic():
            super().save(*args, **kwargs)
            if disables:
                end_access([self], AccessEnd.DISABLED)

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        with transaction.atomic():
            end_access([self], AccessEnd.DELETED)
            with devices_leave():
                return super().delete(*args, **kwargs)

    def event_verb(self, change_type: ChangeType, before: Mapping[str, Any] | None) -> str:
        """Return the verb; where it is not known what changed, it says whether it is enabled."""
        if change_type is ChangeType.CHANGED and (
            before is None or before["enabled"] != self.enabled
        ):
            return "enabled" if self.enabled else "disabled"
        return super().event_verb(change_type, before)

    @classmethod
    @contextmanager
    def checking_many(cls, rows: Iterable["Device"]) -> Iterator[None]:
        with super().checking_many(rows), AttributeDefinition.objects.read_once():
            yield

    @classmethod
    def set_back(cls, rows: Sequence["Device"]) -> None:
        """End the access of those that are disabled again."""
        if disabled := [row for row in rows if not row.enabled]:
            end_access(disabled, AccessEnd.DISABLED)

    def clean_fields(self, exclude: Collection[str] | None = None) -> None:
        """Refuse attributes that a database would not store, or that their types do not allow."""
        errors: dict[str, Any] = {}
        try:
            if "attributes" not in (exclude or ()):
                self._check_attributes()
        except ValidationError as error:
            errors["attributes"] = error
        try:
            super().clean_fields(exclude={*(exclude or ()), *errors})
        except ValidationError as error:
            errors = error.update_error_dict(errors)
        if errors:
            raise ValidationError(errors)

    def _check_attributes(self) -> None:
        """Refuse what no database stores; and, but where it is stored, what is too long or untyped.

        Too long is more than a cell of a file holds; types are those of AttributeDefinition.
        """
        attributes.check(self.attributes)
        try:
            length = len(attributes.as_text(self.attributes))
        except TypeError:  # no JSON at all, as the field will say
            return
        try:
            if length > text.MAX_TEXT_LENGTH:
                raise text.too_long(length)
            AttributeDefinition.objects.check_values(self.attributes)
        except ValidationError:
            if not attributes.is_same(self.stored_value("attributes"), self.attributes):
                raise

    def clean(self) -> None:
        """Store IDs only: an address is reduced to what it names or refused with the ID to use."""
        super().clean()
        # A stored ID is decoded and may hold a dot that its address writes as %2E: it is not
        # parsed again when the device is merely edited. What cannot be stored is no stored ID.
        if self.identifier and not (
            addresses.is_storable(self.identifier)
            and Device.objects.filter(pk=self.pk, identifier=self.identifier).exists()
        ):
            self._check_storable(self.identifier)
            self.identifier = self.registered_id(self.identifier)

    @staticmethod
    def _check_storable(identifier: str) -> None:
        if not addresses.is_storable(identifier) or any(
            text.is_blank(char) or char.isspace() for char in identifier
        ):
            raise ValidationError(
                {
                    "identifier": _(
                        "An identifier has at most 255 characters, without spaces, control "
                        "characters and characters that nobody sees."
                    )
                },
                code="unstorable",
            )

    def identifier_warnings(self, similar: Sequence[str] | None = None) -> list[str]:
        """Return what staff should know before they register this identifier.

        `similar` are those that it is easily taken for, where whoever asks has looked already.
        """
        found: list[object] = []
        if text.mixes_scripts(self.identifier):
            found.append(_("The identifier mixes letters of several scripts that look alike."))
        if similar is None:
            similar = Device.objects.easily_taken_for([self.identifier]).get(self.identifier, [])
        names = "”, “".join(similar[:MAX_NAMED])
        if names:
            found.append(
                _("It is easily taken for “%(names)s”, which is registered.") % {"names": names}
            )
        return [str(warning) for warning in found]

    def registration_warnings(self) -> list[str]:
        found = (*self.identifier_warnings(), self.rtio_warning(), self.basic_warning())
        return [warning for warning in found if warning]

    def basic_warning(self) -> str:
        """Return why HTTP Basic cannot name this backend; empty where it can, or is not meant to.

        A name ends at its first colon (RFC 7617). In an address, //HOST/NAME, it is written `%3A`.
        """
        is_named = self.identifier.startswith("//") or ":" not in self.identifier
        if self.kind != self.Kind.BACKEND or is_named:
            return ""
        text = _(
            "HTTP Basic, and so RTIO, cannot name this backend: a name ends at its first colon. It "
            "can call with the key of a frame, with a certificate or from a network of the "
            "backend; or register it as //HOST/NAME."
        )
        return str(text)

    def rtio_warning(self) -> str:
        """Return why RTIO cannot use this identifier; empty where it can, or is not meant to.

        A Cesanta ID, //HOST/NAME, is not meant for RTIO, and a backend connects to none.
        RTIO's specification says 30 to 40 characters; its servers take exactly 36 bytes.
        """
        if self.kind != self.Kind.DEVICE or self.identifier.startswith("//"):
            return ""
        characters, size = len(self.identifier), len(self.identifier.encode())
        if not RTIO_MIN_LENGTH <= characters <= RTIO_MAX_LENGTH:
            text = _(
                "RTIO cannot use this identifier: its device ids have %(shortest)d to %(longest)d "
                "characters, and this one has %(n)d."
            )
            found = {"shortest": RTIO_MIN_LENGTH, "longest": RTIO_MAX_LENGTH, "n": characters}
        elif size != RTIO_BYTES:
            text = _(
                "RTIO servers of today cannot use this identifier: they take exactly %(bytes)d "
                "bytes, and this one has %(n)d."
            )
            found = {"bytes": RTIO_BYTES, "n": size}
        else:
            return ""
        return str(text % found)

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

    def as_sqlite(self, compiler: Any, connection: Any) -> tuple[str, tuple[Any, ...]]:
        column, parameters = self.process_lhs(compiler, connection)
        ends = f"{self.rhs}\U0010ffff"
        return f"{column} >= %s AND {column} < %s", (*parameters, self.rhs, *parameters, ends)


Device._meta.get_field("identifier").register_lookup(BeginsWith)
