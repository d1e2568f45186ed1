"""The accounts of staff in the admin, with their second factors."""

from typing import Any

from axes.models import AccessFailureLog
from django.contrib import admin, messages
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.forms import UserChangeForm
from django.contrib.auth.models import Group, User
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from django_otp.plugins.otp_static.models import StaticDevice
from django_otp.plugins.otp_totp.models import TOTPDevice

from authsite.accounts import second_factor
from devices.admin.forms import CurrentForm
from devices.admin.mixins import SaveChangedFieldsMixin, confirmation, is_confirmed
from devices.admin.reauthentication import recently_authenticated

# Staff keep their factors on pages of their own; failed logins are kept as attempts.
admin.site.unregister([AccessFailureLog, Group, StaticDevice, TOTPDevice, User])


class StaffForm(CurrentForm, UserChangeForm):
    """Change an account, and undo nothing that others changed meanwhile."""


@admin.register(Group)
class RoleAdmin(SaveChangedFieldsMixin, GroupAdmin):
    """Roles and their permissions."""

    form = CurrentForm


@admin.register(User)
class StaffAdmin(SaveChangedFieldsMixin, UserAdmin):
    """Accounts, and the way back in after the loss of a second factor."""

    form = StaffForm
    actions = ["remove_second_factors"]

    def has_remove_factors_permission(self, request: HttpRequest) -> bool:
        """Leave it to superusers: without its second factor an account is open to a password."""
        off = second_factor.policy() is second_factor.Policy.OFF
        return bool(request.user.is_superuser) and not off

    @admin.action(
        description=gettext_lazy("Remove the second factors of selected accounts"),
        permissions=["remove_factors"],
    )
    @recently_authenticated
    def remove_second_factors(
        self, request: HttpRequest, queryset: QuerySet[Any]
    ) -> HttpResponse | None:
        """Take every second factor off the selected accounts, after a confirmation."""
        if not is_confirmed(request, queryset):
            return confirmation(
                self,
                request,
                queryset,
                title=_("Remove second factors"),
                text=_("These accounts will log in with their password alone until they set up a "
                       "new second factor:"),
                button=_("Remove"),
            )  # fmt: skip
        changed = sum(second_factor.remove_all(user) > 0 for user in queryset)
        for user in queryset:
            self.log_change(request, user, "Removed the second factors.")
        text = ngettext("%(n)d account changed.", "%(n)d accounts changed.", changed)
        self.message_user(request, text % {"n": changed}, messages.SUCCESS)
        return None
