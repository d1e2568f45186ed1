"""Pages for tokens of the API: made, shown once, seen, ended."""

from datetime import timedelta
from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _, gettext_lazy, ngettext, ngettext_lazy

from authsite.accounts.tokens import scopes as scopes_of
from authsite.accounts.tokens.models import ApiToken, TokenOutcome
from authsite.accounts.tokens.rules import MAX_PER_HOUR, Rule
from devices.admin.base.actions import BulkActionsMixin, Revoke
from devices.admin.base.filters import CredentialStateFilter
from devices.admin.base.forms import LineInput, LinesInput, MomentField
from devices.admin.base.history import HistoryMixin
from devices.admin.base.mixins import NoDeletingMixin, RevocableMixin
from devices.admin.base.pages import REASON, is_key, may_view
from devices.admin.base.reauthentication import recently_authenticated
from devices.admin.base.rendering import CREATED, LAST_USED, NOTHING, REVOKED, Tone, badge, expiry
from devices.admin.base.widgets import SuggestedRow
from devices.models import Device, DeviceGroup
from devices.values.text import isolated, joined

USUAL_LIFE = timedelta(days=90)
TEMPLATES = "admin/authsite/apitoken"
MAX_RULES_ON_FORM = 3  # on the form; the command line takes more


class IssueTokenForm(forms.Form):
    owner = forms.ModelChoiceField(
        label=gettext_lazy("Owner"),
        queryset=User.objects.none(),
        help_text=gettext_lazy(
            "You, or a service account. The token can do nothing that its owner may not do."
        ),
    )
    name = forms.CharField(
        label=gettext_lazy("Name"),
        max_length=100,
        widget=LineInput,
        help_text=gettext_lazy("Which program holds it, and where; the history shows it."),
    )
    not_after = MomentField(
        label=gettext_lazy("Valid until"),
        required=False,
        help_text=gettext_lazy("Empty: until somebody ends it."),
    )
    networks = forms.CharField(
        label=gettext_lazy("Networks"),
        required=False,
        widget=LinesInput(attrs={"rows": 2}),
        help_text=gettext_lazy(
            "From where it may be used, such as 10.2.0.0/16; one a line. Empty: from anywhere."
        ),
    )
    scopes = forms.MultipleChoiceField(
        label=gettext_lazy("What it may do"),
        error_messages={
            "required": gettext_lazy("A token without scopes can do nothing: choose one.")
        },
    )

    def __init__(self, user: Any, *args: Any, owner: str = "") -> None:
        super().__init__(*args)
        owners = User.objects.filter(pk=user.pk)
        if user.has_perm("authsite.add_apitoken"):
            owners |= User.objects.exclude(service_account=None).filter(is_active=True)
        field: Any = self.fields["owner"]
        field.queryset = owners.order_by("username")
        field.initial = int(owner) if is_key(owner) else user.pk
        usual = timezone.now() + USUAL_LIFE
        self.fields["not_after"].initial = usual.replace(second=0, microsecond=0)
        choosable: Any = self.fields["scopes"]
        choosable.choices = scopes_of.choices(scopes_of.held_by(user))

    def clean_networks(self) -> list[str]:
        text: str = self.cleaned_data["networks"]
        return text.replace(",", " ").split()

    def scope_table(self) -> list[tuple[str, list[tuple[str, str, bool]]]]:
        """Return the scopes by the kind of rows: each with its words, and whether it is chosen."""
        chosen = set(self.data.getlist("scopes")) if self.is_bound else set()  # type: ignore[attr-defined]
        choosable: Any = self.fields["scopes"]
        return [
            (rows, [(scope, action, scope in chosen) for scope, action in actions])
            for rows, actions in choosable.choices
        ]


class RuleForm(forms.Form):
    permission = forms.ChoiceField(label=gettext_lazy("What"), required=False)
    group = forms.ModelChoiceField(
        label=gettext_lazy("only on devices in"),
        required=False,
        queryset=DeviceGroup.objects.all(),
        widget=SuggestedRow(Device._meta.get_field("groups"), admin.site),
    )
    per_hour = forms.IntegerField(
        label=gettext_lazy("at most, an hour"), required=False, min_value=1, max_value=MAX_PER_HOUR
    )

    def __init__(
        self, *args: Any, offered: scopes_of.Choices, may_name_groups: bool, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        field: Any = self.fields["permission"]
        field.choices = [("", NOTHING), *offered]
        if not may_name_groups:  # a page says what the group of a key is called
            del self.fields["group"]

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        given = cleaned.get("group") or cleaned.get("per_hour")
        if given and not cleaned.get("permission") and "permission" not in self.errors:
            self.add_error("permission", _("What does the limit narrow?"))
        if cleaned.get("permission") and not (given or ":" in cleaned["permission"] or self.errors):
            raise ValidationError(_("A limit names a group, a rate an hour, or both."))
        return cleaned

    def rule(self) -> Rule | None:
        """Return the rule; None where the row was left empty."""
        said = self.cleaned_data
        if not said.get("permission"):
            return None
        group = said["group"].pk if said.get("group") else None
        permission, _colon, only = said["permission"].partition(":")
        return Rule(permission, only=only or None, group=group, per_hour=said["per_hour"])


class EndTokens(Revoke):
    name = "end"
    description = gettext_lazy("End selected tokens")
    title = gettext_lazy("End tokens")
    text = gettext_lazy("Programs that hold these will be refused. This cannot be undone.")
    button = gettext_lazy("End")
    title_of_one = gettext_lazy("End token")
    done = ngettext_lazy("%(n)d token ended.", "%(n)d tokens ended.", "n")
    lacking_text = gettext_lazy("Your account may not end these tokens of others: %(names)s.")

    def lacking(self, rows: Any, user: Any) -> list[str]:
        """Name the tokens of others that the user may not end."""
        if user.has_perm("authsite.change_apitoken"):
            return []
        return [str(token) for token in rows.exclude(owner=user)]

    def text_of_one(self, row: ApiToken) -> str:
        text = _(
            "Whatever holds “{token}” of <b>{owner}</b> will be refused. This cannot be undone."
        )
        return format_html(text, token=isolated(row), owner=row.owner)


class TokenStateFilter(CredentialStateFilter):
    """Tokens by their state; a token is not revoked, it ends."""

    labels = {**CredentialStateFilter.labels, "revoked": gettext_lazy("Ended")}


class OwnerFilter(admin.SimpleListFilter):
    title = gettext_lazy("owner")
    parameter_name = "of"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        """Return the choices, where the account sees more than its own."""
        if not model_admin.sees_all(request):
            return []
        return [("me", _("Mine")), ("services", _("Of service accounts"))]

    def queryset(self, request: HttpRequest, queryset: Any) -> "QuerySet[Any]":
        if self.value() == "me":
            return queryset.filter(owner=request.user)
        is_of_services = self.value() == "services"
        return queryset.exclude(owner__service_account=None) if is_of_services else queryset


@admin.register(ApiToken)
class ApiTokenAdmin(NoDeletingMixin, RevocableMixin, BulkActionsMixin, HistoryMixin):
    """Tokens: staff see and end their own, those with the permission everybody's."""

    list_display = ["name", "owner", "state", "summary", "ends", LAST_USED, "used_from", CREATED]
    list_select_related = ["owner__service_account__answerable"]
    list_filter = [TokenStateFilter, OwnerFilter]
    search_fields = ["name", "identifier", "owner__username"]
    search_help_text = gettext_lazy(
        "Search by name, owner, or identifier: what stands between the first two underscores."
    )
    purpose = gettext_lazy("A token lets a program use the API, for you or a service account.")

    class Media:
        css = {"all": ["authsite/token_form.css"]}

    changes = (EndTokens(),)
    actions = [change.action() for change in changes]
    fieldsets = [
        (None, {"fields": ["name", "owner", "shown_identifier", "state"]}),
        (gettext_lazy("What it may do"), {"fields": ["shown_scopes", "shown_rules"]}),
        (gettext_lazy("Where and until when"), {"fields": ["shown_networks", "ends"]}),
        (gettext_lazy("End"), {"fields": [REVOKED, "revoked_by", "revoked_reason"]}),
        (gettext_lazy("Evidence"), {"fields": [LAST_USED, "used_from", CREATED, "pepper"]}),
    ]

    def sees_all(self, request: HttpRequest) -> bool:
        return request.user.has_perm("authsite.view_apitoken")

    def _may(self, request: HttpRequest, action: str, token: ApiToken | None) -> bool:
        """Whether the account may do it to its own tokens, or to this one."""
        own = token is None or token.owner_id == request.user.pk
        return own or request.user.has_perm(f"authsite.{action}_apitoken")

    def has_module_permission(self, request: HttpRequest) -> bool:
        """Show tokens to all staff: everybody may have some."""
        return True

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Let staff see their own, and who may, all."""
        return self._may(request, "view", obj)

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Let staff make their own; the form offers no other owner without the permission."""
        return True

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Let staff end their own, and who may, all; nothing else of a token changes."""
        return self._may(request, "change", obj)

    def get_queryset(self, request: HttpRequest) -> "QuerySet[ApiToken]":
        tokens = super().get_queryset(request)
        return tokens if self.sees_all(request) else tokens.filter(owner=request.user.pk)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Write nothing: a form that somebody made by hand would write the whole row back."""

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kw: Any) -> Any:
        context |= dict.fromkeys(
            ("show_save", "show_save_and_continue", "show_save_and_add_another", "show_delete"),
            False,
        )
        return super().render_change_form(request, context, *args, **kw)

    # --- Columns ------------------------------------------------------------------------------

    @admin.display(description=gettext_lazy("State"))
    def state(self, token: ApiToken) -> SafeString:
        outcome = token.state_at(timezone.now())
        tone = {TokenOutcome.VERIFIED: Tone.GOOD, TokenOutcome.REVOKED: Tone.OFF}
        return badge(tone.get(outcome, Tone.BAD), outcome.label)

    @admin.display(description=gettext_lazy("May"))
    def summary(self, token: ApiToken) -> str:
        n, m = len(token.scopes), len(token.rules)
        scopes = ngettext("%(n)d scope", "%(n)d scopes", n) % {"n": n}
        rules = ngettext("%(n)d limit", "%(n)d limits", m) % {"n": m}
        return f"{scopes}, {rules}" if m else scopes

    @admin.display(description=gettext_lazy("Valid until"), ordering="not_after")
    def ends(self, token: ApiToken) -> SafeString | str:
        return expiry(token.not_after, timezone.now())

    @admin.display(description=gettext_lazy("Last used from"))
    def used_from(self, token: ApiToken) -> str:
        return token.last_used_from or NOTHING

    @admin.display(description=gettext_lazy("Begins with"))
    def shown_identifier(self, token: ApiToken) -> SafeString:
        """Return how the token begins; this is no secret."""
        return format_html("<code>authsite_{}_…</code>", token.identifier)

    @admin.display(description=gettext_lazy("Scopes"))
    def shown_scopes(self, token: ApiToken) -> SafeString:
        """Return the scopes in words; those that its owner lacks now are marked."""
        lacking = badge(Tone.OFF, _("its owner may not"))
        items = (
            (scopes_of.in_words(scope), "" if token.owner.has_perm(scope) else lacking)
            for scope in token.scopes
        )
        return format_html("<ul>{}</ul>", format_html_join("", "<li>{} {}</li>", items))

    @admin.display(description=gettext_lazy("Limits"))
    def shown_rules(self, token: ApiToken) -> SafeString | str:
        if not token.rules:
            return NOTHING
        items = ((rule,) for rule in token.rules_in_words())
        return format_html("<ul>{}</ul>", format_html_join("", "<li>{}</li>", items))

    @admin.display(description=gettext_lazy("Networks"))
    def shown_networks(self, token: ApiToken) -> str:
        return joined(token.networks) or _("anywhere")

    # --- Making one ---------------------------------------------------------------------------

    @recently_authenticated
    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Issue a token; its text is on this answer only, which no browser keeps."""
        if not self.has_add_permission(request):
            raise PermissionDenied
        maker: Any = request.user
        sent = request.POST if request.method == "POST" else None
        form = IssueTokenForm(maker, sent, owner=request.GET.get("owner", ""))
        offered = scopes_of.choices(scopes_of.held_by(maker), with_actions=True)
        rule_forms = forms.formset_factory(
            RuleForm, extra=MAX_RULES_ON_FORM, max_num=MAX_RULES_ON_FORM
        )(
            sent,
            prefix="rules",
            form_kwargs={
                "offered": offered,
                "may_name_groups": may_view(request, DeviceGroup),
            },
        )
        if form.is_valid() and rule_forms.is_valid():
            rules = [rule for one in rule_forms if (rule := one.rule()) is not None]
            try:
                token, text = ApiToken.objects.issue(**form.cleaned_data, rules=rules, maker=maker)
            except ValidationError as error:
                _add_errors(form, error)
            else:
                title = _("The new token")
                return self.page(
                    request, f"{TEMPLATES}/issued.html", title=title, original=token, secret=text
                )
        return self.page(
            request,
            f"{TEMPLATES}/issue.html",
            title=_("Make a token"),
            form=form,
            why=request.POST.get(REASON, ""),
            rule_forms=rule_forms,
            media=self.media + form.media + rule_forms.media,
        )


def _add_errors(form: forms.Form, error: ValidationError) -> None:
    """Show what a model refused, beside the field where the form has it."""
    found = getattr(error, "error_dict", {"": [error]})
    for field, errors in found.items():
        form.add_error(field if field in form.fields else None, errors)
