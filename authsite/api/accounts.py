"""Accounts, roles and tokens over the API: joiners, leavers, and what leaked.

No answer raises what the request may do: a role is given, and an account enabled, only by who may
do all that it may, as far as the token grants it without a limit. Superusers, passwords and
permissions of roles are left to the admin and the command line; tokens are ended here, and made
there. (docs/tokens.md)
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth.models import Group, User
from django.core.exceptions import ValidationError as DjangoValidationError
from django.db.models import QuerySet
from django.utils.translation import gettext_lazy
from django_filters import ChoiceFilter
from django_filters.rest_framework import FilterSet
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import exceptions, serializers
from rest_framework.decorators import action
from rest_framework.fields import get_error_detail
from rest_framework.request import Request
from rest_framework.response import Response

from authsite.accounts.account import Account
from authsite.accounts.tokens.models import ApiToken
from authsite.accounts.tokens.service_account import ServiceAccount, names_of, permissions_of
from devices.api.base.filters import CharFilter, TruthFilter
from devices.api.base.permissions import may_all, model_permissions
from devices.api.base.serializers import (
    BooleanField,
    CharField,
    ModelSerializer,
    ReasonSerializer,
    RowField,
)
from devices.api.base.views import ChangeMixin, CreateMixin, ReadMixin, RegistryViewSet

KINDS = [("staff", "staff"), ("service", "service")]
CHANGING = ("authsite.change_account",)


@extend_schema_field(OpenApiTypes.STR)
class RolesField(RowField):
    """The name of a role, as settings and commands call it."""

    default_error_messages = {
        "does_not_exist": gettext_lazy("There is no role “{pk_value}”."),
        "invalid": gettext_lazy("This must be the name of a role."),
    }
    key_field, key_type, type_error = "name", str, "invalid"

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(queryset=Group.objects.order_by("name"), **kwargs)

    def to_representation(self, value: Group) -> str:  # type: ignore[override]
        return value.name

    def use_pk_only_optimization(self) -> bool:
        return False


@contextmanager
def api_errors(**names: str) -> Iterator[None]:
    """Turn a model's ValidationError into the API's.

    Its errors are those of the fields that it names, or else of `roles`; `names` are those of
    fields that are called otherwise over the API.
    """
    try:
        yield
    except DjangoValidationError as error:
        if hasattr(error, "error_dict"):
            found: Any = get_error_detail(error)
            told = {names.get(name, name): texts for name, texts in found.items()}
            raise exceptions.ValidationError(told) from None
        raise exceptions.ValidationError({"roles": error.messages}) from None


class AccountSerializer(ModelSerializer):
    """An account of staff or of a service, and its roles by name; it has no password here."""

    roles = RolesField(source="groups", many=True)
    enabled = BooleanField(source="is_active", read_only=True)
    superuser = BooleanField(source="is_superuser", read_only=True)
    kind = serializers.SerializerMethodField()

    class Meta:
        model = Account
        fields = [
            "id", "username", "kind", "first_name", "last_name", "email", "enabled", "superuser",
            "roles", "date_joined", "last_login",
        ]  # fmt: skip
        read_only_fields = ["date_joined", "last_login"]
        create_only = ["username"]
        versioned_with = ["groups"]

    def get_kind(self, account: Account) -> str:
        return "staff" if account.service is None else "service"

    def create(self, validated_data: dict[str, Any]) -> Any:
        roles, view = validated_data.pop("groups"), self.context["view"]
        with api_errors():
            return Account.objects.create_account(roles=roles, maker=view, **validated_data)

    def update(self, instance: Account, validated_data: dict[str, Any]) -> Account:
        """Change names, address and roles, the latter within what the request may do."""
        roles = validated_data.pop("groups", None)
        changed: Account = super().update(instance, validated_data)
        if roles is not None:
            with api_errors():
                changed.set_roles(roles, maker=self.context["view"])
        return changed


class AccountFilters(FilterSet):
    username = CharFilter()
    enabled = TruthFilter(field_name="is_active")
    kind = ChoiceFilter(choices=KINDS, method="of_kind")
    role = CharFilter(field_name="groups__name")

    @staticmethod
    def of_kind(accounts: "QuerySet[Account]", _name: str, kind: str) -> "QuerySet[Account]":
        return accounts.filter(service_account__isnull=kind == "staff")


class GivingViewSet(ReadMixin, CreateMixin, ChangeMixin, RegistryViewSet):
    """Accounts, to which a request gives what it may do itself."""

    asks_guards = False  # no decision about commands depends on it

    def has_perm(self, permission: str) -> bool:
        """Whether the request may do it, and within no limit: who is given it has none."""
        return may_all(self.request, permission)


class AccountViewSet(GivingViewSet):
    """Accounts of staff and of services: made, given roles, disabled."""

    queryset = Account.objects.select_related("service_account").prefetch_related("groups")
    serializer_class = AccountSerializer
    filterset_class = AccountFilters
    permissions = {"enable": CHANGING, "disable": CHANGING}

    def get_object(self) -> Any:
        """Return the account; a superuser's is not changed here."""
        account = super().get_object()
        if self.changing:
            with api_errors():
                account.check_ordinary()
        return account

    def create_row(self, request: Request) -> Response:
        """Create it, and leave a line in the log of the admin, which accounts have for history."""
        response = super().create_row(request)
        self._log(response.data["id"], "Created over the API.")
        return response

    def partial_update(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Change names, address and roles: exactly those that are named."""
        response = super().partial_update(request, *args, **kwargs)
        roles = ", ".join(response.data["roles"]) or "none"
        self._log(response.data["id"], f"Changed over the API; roles: {roles}.")
        return response

    @extend_schema(request=ReasonSerializer, responses=AccountSerializer)
    @action(detail=True, methods=["post"])
    def disable(self, request: Request, **_kwargs: Any) -> Response:
        """Refuse an account from its next request on; its tokens end for good."""
        return self._switch(Account.disable, "Disabled over the API.")

    @extend_schema(request=ReasonSerializer, responses=AccountSerializer)
    @action(detail=True, methods=["post"])
    def enable(self, request: Request, **_kwargs: Any) -> Response:
        """Let an account log in again, if the request may do all that the account may."""
        return self._switch(lambda account: account.enable(maker=self), "Enabled over the API.")

    def _switch(self, switch: Any, done: str) -> Response:
        account = self.get_object()
        with self.because(self.asked(ReasonSerializer)["reason"], field="reason"), api_errors():
            switch(account)
        self._log(account.pk, done)
        return self.row_response(account)

    def _log(self, pk: int, text: str) -> None:
        owner: Any = self.request.user
        token = f" [{self.request.auth}]" if self.request.auth is not None else ""
        LogEntry.objects.log_actions(
            owner.pk, User.objects.filter(pk=pk), CHANGE, change_message=text + token
        )


class RoleSerializer(ModelSerializer):
    """A role: its name, and what whoever has it may do."""

    permissions = serializers.SerializerMethodField()

    class Meta:
        model = Group
        fields = ["id", "name", "permissions"]
        read_only_fields = fields
        versioned_with = ["permissions"]

    def get_permissions(self, role: Group) -> list[str]:
        return sorted(names_of(role.permissions.all()))


class RoleViewSet(ReadMixin, RegistryViewSet):
    """Roles; what they may do is changed in the admin."""

    queryset = Group.objects.order_by()
    serializer_class = RoleSerializer
    permissions = dict.fromkeys(("list", "retrieve"), ("authsite.view_account",))


class ServiceAccountSerializer(ModelSerializer):
    """An account of a program, which cannot log in, and who answers for it."""

    name = CharField(source="user.username", max_length=150)
    account = serializers.IntegerField(source="user_id", read_only=True)
    answerable = RowField(queryset=User.objects.filter(is_active=True, is_staff=True))
    roles = RolesField(source="user.groups", many=True)
    enabled = BooleanField(source="user.is_active", read_only=True)

    class Meta:
        model = ServiceAccount
        fields = ["id", "name", "account", "answerable", "purpose", "roles", "enabled", "created"]
        read_only_fields = ["created"]
        create_only = ["name", "roles"]  # roles are changed as those of any account

    def validate_answerable(self, answerable: User) -> User:
        """Bring nothing back that could do more than the request."""
        if self.instance is not None and self.instance.user.is_active:
            permissions = permissions_of(self.instance.user)
            self.instance.check_handed_on(permissions, maker=self.context["view"])
        return answerable

    def create(self, validated_data: dict[str, Any]) -> ServiceAccount:
        user = validated_data.pop("user")
        with api_errors(username="name"):
            return ServiceAccount.objects.create_account(
                user["username"], roles=user["groups"], maker=self.context["view"], **validated_data
            )


class ServiceAccountViewSet(GivingViewSet):
    """Service accounts: of programs, and each with somebody who answers for it."""

    queryset = ServiceAccount.objects.select_related("user").prefetch_related("user__groups")
    serializer_class = ServiceAccountSerializer


class TokenSerializer(ModelSerializer):
    """A token: everything but its secret, which nobody can read any more."""

    class Meta:
        model = ApiToken
        fields = [
            "id", "name", "identifier", "owner", "scopes", "rules", "networks", "not_after",
            "created", "last_used", "last_used_from", "revoked_at", "revoked_reason",
        ]  # fmt: skip
        read_only_fields = fields


class TokenViewSet(ReadMixin, RegistryViewSet):
    """Tokens of everybody: seen and ended. They are made in the admin, after a password."""

    queryset = ApiToken.objects.order_by()
    serializer_class = TokenSerializer
    filterset_fields = ["owner", "identifier"]
    ordering = "-pk"
    asks_guards = False
    permissions = {"end": model_permissions(ApiToken)["partial_update"]}

    @extend_schema(request=ReasonSerializer, responses=TokenSerializer)
    @action(detail=True, methods=["post"])
    def end(self, request: Request, **_kwargs: Any) -> Response:
        """End a token from its next use on; one that has ended stays as it is."""
        return self.revoke_row()
