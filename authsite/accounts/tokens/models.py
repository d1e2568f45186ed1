"""Tokens of the API: how one is made, whether it is right, and what it may do.

A token is shown once and stored one-way, like a generated key of a device, but bound to its own
identifier: the digest of one row verifies no other. What a token was given never changes; it ends.
"""

import hashlib
import hmac
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any, NamedTuple, cast

from django.contrib.auth.models import Permission, User
from django.core.exceptions import ValidationError
from django.db import models, transaction
from django.db.models import Model, Q, QuerySet, Sum
from django.db.models.signals import post_save, pre_delete
from django.dispatch import receiver
from django.utils import timezone
from django.utils.translation import gettext, gettext_lazy as _
from rest_framework import exceptions

from acl.engine.group_tree import GroupTree
from authsite.accounts.token_text import generate, identifier_of
from authsite.accounts.tokens import rules as narrowing
from authsite.accounts.tokens.rules import MAX_RULES, Row, Rule
from authsite.accounts.tokens.scopes import in_words
from authsite.accounts.tokens.service_account import (
    ServiceAccount,
    check_held,
    is_staff_member,
    names_of,
)
from authsite.readers import network
from devices.credentials import hashing
from devices.extension_points import Ending
from devices.history import Records
from devices.history.context import current_user
from devices.history.models import permission_to
from devices.models import DeviceGroup, Job
from devices.models.credentials.revocation import Revocable, RevocableQuerySet
from devices.values.text import joined
from rpc.authentication import is_within

CONTEXT = b"authsite api token v1\x00"  # no digest of another kind of secret is one of a token
HOUR = timedelta(hours=1)
MAX_NETWORKS = 50  # of one token
READING = frozenset({None, "list", "retrieve", "export"})  # operations that change nothing
PLACING = ("devices.add_device", "devices.change_device")  # what puts devices into groups

Network = IPv4Network | IPv6Network


class TokenOutcome(models.TextChoices):
    """Why a token does, or does not, let its holder in. Only VERIFIED does."""

    VERIFIED = "verified", _("usable")
    MALFORMED = "malformed", _("mistyped or incomplete")
    UNKNOWN = "unknown", _("no such token")
    PEPPER_MISSING = "pepper-missing", _("pepper missing")
    REVOKED = "revoked", _("ended")
    EXPIRED = "expired", _("expired")
    OWNER = "owner", _("owner disabled")
    NETWORK = "network", _("not from this network")


class TokenVerdict(NamedTuple):
    """What a presented token is answered with; `token` is the row that it identifies."""

    outcome: TokenOutcome
    token: "ApiToken | None" = None


class ApiTokenQuerySet(RevocableQuerySet["ApiToken"]):
    def ending(self, now: datetime, until: datetime) -> Iterator[Ending]:
        """Yield the live tokens that end by then."""
        for token in self.live_at(now).filter(not_after__lte=until).select_related("owner"):
            yield Ending("token", f"{token.owner} {token}", cast(datetime, token.not_after))

    def revoke(self, *, by: str, reason: str = "") -> int:
        """End those that have not ended, and the jobs that they have asked for."""
        with transaction.atomic():
            tokens = list(self.unrevoked())
            ended = super().revoke(by=by, reason=reason)
            Job.objects.asked_by(*tokens).cancel(timezone.now())
        return ended

    def may_have_done(self, job: Job, now: datetime) -> bool:
        """Whether a job was asked for without a token, or with one that may be used then.

        Whether this process knows the pepper of the token is nothing to the job.
        """
        kind, _space, pk = job.asked_with.partition(" ")
        if kind != self.model.__name__:
            return True
        token = self.filter(pk=pk).select_related("owner__service_account__answerable").first()
        return token is not None and token.admission_at(now) is TokenOutcome.VERIFIED

    def issue(
        self,
        *,
        owner: User,
        name: str,
        scopes: Iterable[str],
        networks: Sequence[str] = (),
        rules: Sequence[Rule] = (),
        not_after: datetime | None = None,
        maker: User | None = None,
    ) -> tuple["ApiToken", str]:
        """Create a token; return it and its text, which exists nowhere else.

        `maker` gives it no permission that the maker has not. None is somebody with access to
        the machine. Raises ValidationError.
        """
        identifier, text = generate()
        pepper = hashing.newest_pepper()
        token = self.model(
            owner=owner,
            name=name,
            identifier=identifier,
            digest=digest_of(text, pepper),
            pepper=pepper,
            scopes=sorted(set(scopes)),
            networks=list(networks),
            rules=[rule.stored() for rule in rules],
            not_after=not_after,
        )
        token.full_clean(exclude=["digest", "pepper", "identifier"])
        check_held(maker, token.scopes)
        token.save()
        return token, text

    def verify(self, text: str, address: str | None, now: datetime) -> TokenVerdict:
        """Return whether a text that was presented from an address is a token that may be used.

        One statement and one keyed hash, whether there is such a token or not; none for a text
        whose checksum is wrong.
        """
        identifier = identifier_of(text)
        if identifier is None:
            return TokenVerdict(TokenOutcome.MALFORMED)
        found = (
            self.filter(identifier=identifier)
            .select_related("owner__service_account__answerable")
            .first()
        )
        pepper = hashing.newest_pepper() if found is None else found.pepper
        is_known = pepper in hashing.peppers()
        made = digest_of(text, pepper if is_known else hashing.newest_pepper())
        stored = made[::-1] if found is None else found.digest
        is_right = hmac.compare_digest(made, stored)
        if found is None or (is_known and not is_right):
            return TokenVerdict(TokenOutcome.UNKNOWN)
        outcome = found.state_at(now)
        if outcome is TokenOutcome.VERIFIED and not found.may_be_used_from(address):
            outcome = TokenOutcome.NETWORK
        return TokenVerdict(outcome, found)


def digest_of(text: str, pepper: str) -> str:
    """Return the digest of a token's text with the pepper of that id, in hexadecimal."""
    key = hashing.peppers()[pepper]
    return hmac.digest(key, CONTEXT + text.encode(), hashlib.sha256).hex()


class ApiToken(Revocable):
    """What a program shows to use the API, in the name of a person or of a service account."""

    owner = models.ForeignKey(
        User, verbose_name=_("owner"), on_delete=models.CASCADE, related_name="tokens"
    )
    name = models.CharField(
        _("name"),
        max_length=100,
        help_text=_("Which program holds it, and where; the history shows it."),
    )
    identifier = models.CharField(_("identifier"), max_length=16, unique=True, editable=False)
    digest = models.CharField(_("digest"), max_length=64, editable=False)
    pepper = models.CharField(_("pepper"), max_length=32, editable=False)
    scopes = models.JSONField(_("scopes"), help_text=_("What it may do, as far as its owner may."))
    networks = models.JSONField(
        _("networks"),
        default=list,
        blank=True,
        help_text=_("From where it may be used (CIDR); from anywhere if there is none."),
    )
    rules = models.JSONField(_("limits"), default=list, blank=True)
    not_after = models.DateTimeField(_("valid until"), null=True, blank=True)
    created = models.DateTimeField(_("created"), auto_now_add=True)
    last_used = models.DateTimeField(_("last used"), null=True, blank=True, editable=False)
    last_used_from = models.GenericIPAddressField(
        _("last used from"), null=True, blank=True, editable=False
    )

    operation: str | None = None  # what the request does that it is used in, as the view names it

    objects = ApiTokenQuerySet.as_manager()
    history = Records(without=["digest", "pepper", "created", "last_used", "last_used_from"])

    class Meta:
        ordering = ["-pk"]
        verbose_name = _("API token")
        verbose_name_plural = _("API tokens")
        default_permissions = ("view", "add", "change")
        constraints = [
            models.UniqueConstraint(
                fields=["owner", "name"],
                condition=Q(revoked_at=None),
                name="authsite_token_name_unique",
                violation_error_message=_(
                    "The owner has a token of this name: end that one, or choose another name."
                ),
            ),
            models.CheckConstraint(
                condition=~Q(digest="") & ~Q(pepper="") & ~Q(identifier=""),
                name="authsite_token_digest_present",
            ),
        ]

    def __str__(self) -> str:
        return self.name

    # --- What it is given ---------------------------------------------------------------------

    def clean(self) -> None:
        """Refuse more than its owner may do, bad networks, and rules that narrow nothing."""
        super().clean()
        errors: dict[str, Any] = {}
        for field, check in (
            ("scopes", self._check_scopes),
            ("networks", self._check_networks),
            ("rules", self._check_rules),
        ):
            try:
                check()
            except ValidationError as error:
                errors[field] = error
        if self._state.adding and self.not_after is not None and self.not_after <= timezone.now():
            errors["not_after"] = ValidationError(gettext("This lies in the past."))
        if errors:
            raise ValidationError(errors)

    def _check_scopes(self) -> None:
        if not (isinstance(self.scopes, list) and all(isinstance(one, str) for one in self.scopes)):
            raise ValidationError(gettext("Scopes are a list of permissions."))
        if not self.scopes:
            raise ValidationError(gettext("A token without scopes can do nothing: choose one."))
        if unknown := set(self.scopes) - names_of(Permission.objects.all()):
            raise ValidationError(
                gettext("There is no such permission: %(names)s."),
                params={"names": joined(sorted(unknown))},
            )
        if self._state.adding and self.owner_id is not None:
            check_held(self.owner, self.scopes)

    def _check_networks(self) -> None:
        if not isinstance(self.networks, list) or len(self.networks) > MAX_NETWORKS:
            raise ValidationError(
                gettext("Networks are a list of at most %(most)d."), params={"most": MAX_NETWORKS}
            )
        for text in self.networks:
            try:
                network(text if isinstance(text, str) else "")
            except ValueError:
                raise ValidationError(
                    gettext("“%(text)s” is no network such as 10.2.0.0/16 or 2001:db8::/64."),
                    params={"text": str(text)[:64]},
                ) from None

    def _check_rules(self) -> None:
        if not isinstance(self.rules, list) or len(self.rules) > MAX_RULES:
            raise ValidationError(
                gettext("Limits are a list of at most %(most)d."), params={"most": MAX_RULES}
            )
        for stored in self.rules:
            Rule.read(stored).check(self.scopes if isinstance(self.scopes, list) else ())

    def revoke(self, *, by: str, reason: str = "", now: datetime | None = None) -> bool:
        """End the token from its next use on, and the jobs that it has asked for."""
        with transaction.atomic():
            ended = super().revoke(by=by, reason=reason, now=now)
            Job.objects.asked_by(self).cancel(now or timezone.now())
        return ended

    # --- Whether it may be used ---------------------------------------------------------------

    def state_at(self, now: datetime) -> TokenOutcome:
        """Return VERIFIED where whoever has the token may use it at that moment, else why not."""
        if self.pepper not in hashing.peppers():
            return TokenOutcome.PEPPER_MISSING
        return self.admission_at(now)

    def admission_at(self, now: datetime) -> TokenOutcome:
        """Return `state_at` as it is where the pepper of the token is known."""
        if self.revoked_at is not None:
            return TokenOutcome.REVOKED
        if self.not_after is not None and now >= self.not_after:
            return TokenOutcome.EXPIRED
        return TokenOutcome.VERIFIED if self.owner_may_act() else TokenOutcome.OWNER

    def owner_may_act(self) -> bool:
        """Whether the owner is active staff, or a service that active staff answer for."""
        service: ServiceAccount | None = getattr(self.owner, "service_account", None)
        if service is None:
            return is_staff_member(self.owner)
        return self.owner.is_active and is_staff_member(service.answerable)

    def may_be_used_from(self, address: str | None) -> bool:
        """Whether an address is in one of the networks; one that is not certain is in none."""
        if not self.networks:
            return True
        networks = tuple(ip_network(text) for text in self.networks)
        return address is not None and is_within(address, networks)

    # --- What it may do: the grant of a request -----------------------------------------------

    def permits(self, permission: str) -> bool:
        """Whether the scopes name the permission; whether the owner has it is asked beside."""
        return permission in self.scopes

    def rules_about(self, permission: str) -> dict[Rule, int]:
        """Return the rules that narrow a permission, with the place of each."""
        read = [Rule.read(stored) for stored in self.rules]
        return {rule: at for at, rule in enumerate(read) if rule.permission == permission}

    def rules_in_words(self) -> list[str]:
        """Return the rules in words; one statement where they name groups."""
        read = [Rule.read(stored) for stored in self.rules]
        names = DeviceGroup.objects.in_bulk([rule.group for rule in read if rule.group is not None])
        return [rule.in_words(in_words(rule.permission), names.get(rule.group)) for rule in read]

    def narrows(self, permission: str) -> bool:
        return bool(self.rules_about(permission))

    def narrow(self, queryset: "QuerySet[Row]") -> "QuerySet[Row]":
        """Return those of the rows that the rules about seeing them admit."""
        seen = self.rules_about(permission_to("view", queryset.model))
        rows = narrowing.narrowed(queryset, list(seen))
        if queryset.model is DeviceGroup and self.operation not in READING:
            # A device that may be changed may be put into no group but those.
            for permission in PLACING:
                rows = narrowing.narrowed(rows, list(self.rules_about(permission)))
        return rows

    def reached_groups(self, permission: str) -> frozenset[int] | None:
        """Return the groups, and those below them, that a permission is kept to; None: to none."""
        seen = self.rules_about(permission)
        groups = [rule.group for rule in seen if rule.group is not None]
        if not seen or len(groups) < len(seen):
            return None
        return frozenset(GroupTree().below(*groups))

    def count_use(self, permission: str, rows: Iterable[Model]) -> None:
        """Count rows that a permission is used on against the rules about it.

        Call it in the transaction of the change: what is rolled back is not spent. Rows are as
        they were before a change, new ones as they are afterwards. Raises PermissionDenied where
        no rule admits a row, Throttled where a rate is used up.
        """
        about = self.rules_about(permission)
        if not about:
            return
        admitted = narrowing.admitting(about, list(rows), self.operation)
        if admitted is None:
            raise exceptions.PermissionDenied(gettext("No limit of the token allows this."))
        with transaction.atomic():
            for rule, count in admitted.items():
                if rule.per_hour is not None:
                    self._take(about[rule], rule.per_hour, count)

    def _take(self, place: int, limit: int, count: int) -> None:
        """Count rows against a rate; exact, whatever other processes do at the moment."""
        ApiToken.objects.select_for_update(no_key=True).filter(pk=self.pk).exists()
        now = timezone.now()
        uses = RuleUse.objects.filter(token=self, rule=place)
        uses.filter(moment__lte=now - HOUR).delete()
        spent = uses.aggregate(total=Sum("count"))["total"] or 0
        if spent + count > limit:
            raise exceptions.Throttled(wait=_wait(uses, spent + count - limit, now))
        RuleUse.objects.create(token=self, rule=place, moment=now, count=count)


def _wait(uses: "QuerySet[RuleUse]", too_many: int, now: datetime) -> float:
    """Return the seconds until enough of the uses are an hour old; an hour where none will do."""
    for moment, count in uses.order_by("moment").values_list("moment", "count"):
        too_many -= count
        if too_many <= 0:
            return max(1.0, (moment + HOUR - now).total_seconds())
    return HOUR.total_seconds()


class RuleUseQuerySet(models.QuerySet["RuleUse"]):
    def forget(self, now: datetime) -> int:
        """Delete those that count against no rate any more; return how many."""
        return self.filter(moment__lte=now - HOUR).delete()[0]


class RuleUse(models.Model):
    """How many rows a rule with a rate admitted at a moment of the last hour."""

    token = models.ForeignKey(ApiToken, on_delete=models.CASCADE, related_name="uses")
    rule = models.PositiveSmallIntegerField()  # its place among the token's rules
    moment = models.DateTimeField()
    count = models.PositiveIntegerField()

    objects = RuleUseQuerySet.as_manager()

    class Meta:
        default_permissions = ()
        indexes = [models.Index(fields=["token", "rule", "moment"], name="authsite_rule_use")]

    def __str__(self) -> str:
        return f"{self.count} rows by rule {self.rule} of {self.token_id}"


@receiver(post_save, sender=User)
@receiver(post_save, sender="authsite.Account")
def end_tokens_of_disabled(
    *, instance: User, update_fields: frozenset[str] | None, **_signal: Any
) -> None:
    """End the tokens of an account that is disabled: they stay so if it is enabled again."""
    if not instance.is_active and (update_fields is None or "is_active" in update_fields):
        ApiToken.objects.filter(owner=instance).revoke(
            by=current_user(), reason=str(gettext("the account was disabled"))
        )


@receiver(pre_delete, sender=ApiToken)
def cancel_jobs_of_deleted(*, instance: ApiToken, **_signal: Any) -> None:
    """Cancel what a token has asked for, however it is deleted: by itself or with others."""
    Job.objects.asked_by(instance).cancel(timezone.now())
