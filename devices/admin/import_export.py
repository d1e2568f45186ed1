"""The admin's pages that bring devices in from files and take them out."""

import hashlib
import io
from collections.abc import Sequence
from dataclasses import asdict
from itertools import groupby
from typing import Any, cast

from django import forms
from django.contrib import messages
from django.contrib.admin.options import IncorrectLookupParameters
from django.core import signing
from django.core.exceptions import ValidationError
from django.core.files.uploadedfile import UploadedFile
from django.core.files.uploadhandler import MemoryFileUploadHandler
from django.http import (
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    HttpResponseRedirect,
    StreamingHttpResponse,
)
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.decorators import method_decorator
from django.utils.http import content_disposition_header
from django.utils.translation import gettext as _, gettext_lazy
from django.views.decorators.csrf import csrf_exempt, csrf_protect

from devices import history
from devices.admin.base.actions import with_undo
from devices.admin.base.changelist import MAX_LISTED, check_choices, hits
from devices.admin.base.forms import LineInput
from devices.admin.base.pages import OwnPagesMixin, download, own_page
from devices.admin.base.reauthentication import is_recent
from devices.background.jobs import NEEDED
from devices.history.context import check_reason
from devices.models import Device
from devices.models.device import DeviceQuerySet
from devices.transfer.columns import columns_of
from devices.transfer.exporting import devices_in_pieces, export_devices, export_secrets, template
from devices.transfer.formats import MAX_BYTES, SEPARATORS, Format, Problem, format_of
from devices.transfer.importing import MAX_HASHES, Import
from devices.transfer.rows import Options
from devices.transfer.tables import read
from devices.values.forms import IN_PARTS, check_form
from devices.values.text import isolated, joined

MAX_SHOWN = 200  # different errors and warnings on a page
MAX_RANGES = 10  # of rows with the same one
MAX_SAMPLE = 20  # devices in a preview
PREVIEW_LIFE = 60 * 60  # seconds


class InMemoryUpload(MemoryFileUploadHandler):
    """Keeps an upload off the disk, since there may be secrets in it; what is too much is dropped.

    The size is noted all the same, so that the form can say what is wrong.
    """

    def handle_raw_input(self, *args: Any, **kwargs: Any) -> None:
        """Take on uploads of any size."""
        self.activated = True

    def receive_data_chunk(self, raw_data: bytes, start: int) -> bytes | None:
        if start <= MAX_BYTES:
            super().receive_data_chunk(raw_data, start)
        return None


class ImportForm(forms.Form):
    """A file, and what staff say of it as a whole."""

    file = forms.FileField(
        label=gettext_lazy("File"),
        error_messages={"required": gettext_lazy("Choose the file to import.")},
        help_text=gettext_lazy("CSV, JSON, NDJSON or XLSX, as the ending of its name says."),
        widget=forms.FileInput(attrs={"accept": ",".join(f".{kind}" for kind in Format.values)}),
    )
    create_groups = forms.BooleanField(
        label=gettext_lazy("Create groups that do not exist"), required=False
    )
    generate = forms.BooleanField(
        label=gettext_lazy("Generate secrets"),
        required=False,
        help_text=gettext_lazy(
            "For each device in the file that has no live credential and gets none from the file. "
            "They are downloaded once, as a file, when the import is done."
        ),
    )
    random = forms.BooleanField(
        label=gettext_lazy("The secrets in the file are random"),
        required=False,
        help_text=gettext_lazy(
            "A machine made them, with at least 128 bits: they are then checked as fast as "
            "generated ones. At most 1,000 others may be in a file."
        ),
    )

    reason = forms.CharField(
        label=gettext_lazy("Reason"),
        required=False,
        max_length=200,
        widget=LineInput,
        help_text=gettext_lazy("For the history, which keeps the name of the file as well."),
    )

    def clean_file(self) -> "UploadedFile[Any]":
        file: UploadedFile[Any] = self.cleaned_data["file"]
        if (file.size or 0) > MAX_BYTES:
            raise ValidationError(
                _("The file is larger than %(most)d MiB; split it."),
                params={"most": MAX_BYTES // 1024**2},
            )
        format_of(file.name or "")
        return file


class Upload:
    """A file that was sent, with the preview of it that was confirmed, if one was."""

    def __init__(self, request: HttpRequest, form: ImportForm) -> None:
        """Read the file; it is in memory, and stays nowhere else."""
        self.request = request
        self.refusal = ""
        self.is_outdated = self.is_unconfirmed = False
        self.asked: dict[str, Any] = {}  # what a guard wants confirmed before anything is written
        file = form.cleaned_data["file"]
        content = file.read()
        self.name = file.name
        self.reason = ": ".join(filter(None, (self.name, form.cleaned_data["reason"])))
        names = ("create_groups", "generate", "random")
        self.options = Options(**{name: form.cleaned_data[name] for name in names})
        self.fingerprint = hashlib.sha256(content).hexdigest()
        self.run = Import(
            read(content, format_of(self.name), columns_of),
            self.options,
            most_hashes=MAX_HASHES,
            admit_secrets=self._check_secrets_permitted,
        )

    @property
    def preview(self) -> dict[str, Any]:
        """What is confirmed: this file, these options, this outcome, by this user."""
        return {
            "user": self.request.user.pk,
            "file": self.fingerprint,
            "options": asdict(self.options),
            "counts": self.run.counts,
            "registry": self.run.state,
        }

    @property
    def token(self) -> str:
        return signing.dumps(self.preview, salt=__name__)

    def prepare(self) -> bool:
        """Check the file; make its secrets where what came of it was confirmed."""
        try:
            check_reason(self.reason)
            self.run.check()
            self._check_permitted()
        except ValidationError as error:
            self.refusal = " ".join(error.messages)
            return False
        token = self.request.POST.get("confirmed", "")
        if not (token and self.run.is_sound):
            return False
        try:
            seen = signing.loads(token, salt=__name__, max_age=PREVIEW_LIFE)
        except signing.BadSignature:
            seen = None
        self.is_outdated = seen != self.preview
        if not self.is_outdated:
            self.run.prepare()
        return not self.is_outdated

    def _check_secrets_permitted(self) -> None:
        self._need("devices.add_presharedkey")
        if not is_recent(self.request):
            self.is_unconfirmed = True
            raise ValidationError(
                _("Before secrets are issued, you have to show once more who you are.")
            )

    def _check_permitted(self) -> None:
        counts = self.run.counts
        if counts["secrets"]:
            self._check_secrets_permitted()
        for counted, permission in NEEDED.items():
            if counts[counted]:
                self._need(permission)

    def _need(self, permission: str) -> None:
        if not self.request.user.has_perm(permission):
            raise ValidationError(str(NOT_PERMITTED[permission]), code="permission")

    def context(self) -> dict[str, Any]:
        run, counts = self.run, self.run.counts
        problems, more_problems = gathered(run.problems, run.problem_total)
        warnings, more_warnings = gathered(run.warnings, run.warning_total)
        kinds = ("new", "changed", "unchanged", "rejected")
        return {
            "upload": self,
            "counts": counts,
            "kinds": KINDS.values(),
            "tables": [
                (_("Devices"), [counts[kind] for kind in kinds]),
                (_("Groups"), [counts[f"groups_{kind}"] for kind in kinds]),
            ],
            "problems": problems,
            "more_problems": more_problems,
            "may_lack_groups": not self.options.create_groups
            and any(one.column in {"groups", "parent"} for one in run.problems),
            "warnings": warnings,
            "more_warnings": more_warnings,
            "sample": run.entries[:MAX_SAMPLE],
        }


def gathered(findings: Sequence[Problem], total: int) -> tuple[list[tuple[str, str, str]], int]:
    """Return each finding once, with all its rows as a text, and how many are not shown."""
    rows: dict[tuple[str, str], list[int]] = {}
    for one in findings:
        rows.setdefault((one.column, one.message), []).append(one.row)
    shown = list(rows.items())[:MAX_SHOWN]
    more = total - sum(len(places) for _what, places in shown)
    return [(ranges(sorted(set(places))), *what) for what, places in shown], more


def ranges(numbers: Sequence[int]) -> str:
    """Return different numbers, ascending, as a text such as "2–18, 20"."""
    found = []
    for _step, pairs in groupby(enumerate(numbers), lambda pair: pair[1] - pair[0]):
        numbers_in_a_row = [number for _place, number in pairs]
        first, last = numbers_in_a_row[0], numbers_in_a_row[-1]
        found.append(f"{first}" if first == last else f"{first}–{last}")
    return joined(found, MAX_RANGES)


KINDS = {
    "new": gettext_lazy("New"),
    "changed": gettext_lazy("Changed"),
    "unchanged": gettext_lazy("Unchanged"),
    "rejected": gettext_lazy("Rejected"),
}
NOT_PERMITTED = {
    "devices.add_presharedkey": gettext_lazy("You may not issue or register secrets."),
    "devices.add_certificate": gettext_lazy("You may not register certificates."),
    "devices.add_devicegroup": gettext_lazy("You may not create groups."),
    "devices.change_devicegroup": gettext_lazy("You may not change groups."),
}


class ImportExportMixin(OwnPagesMixin):
    """The pages of a device's admin that import and export."""

    # --- In ---------------------------------------------------------------------------------

    # The upload must be taken over before anything reads the form: its token is checked then.
    @own_page("import/", "import", needs="import")
    @method_decorator(csrf_exempt)
    def import_page(self, request: HttpRequest) -> HttpResponseBase:
        """Check a file and show what would come of it; import it once that is confirmed."""
        if request.content_type == IN_PARTS:  # others are read already, without files
            request.upload_handlers = [InMemoryUpload(request)]
        check_form(request)
        return self._import(request)

    def has_import_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perms(["devices.add_device", "devices.change_device"])

    @method_decorator(csrf_protect)
    def _import(self, request: HttpRequest) -> HttpResponseBase:
        form = ImportForm(*((request.POST, request.FILES) if request.method == "POST" else ()))
        if not form.is_valid():
            return self._import_page(request, form)
        upload = Upload(request, form)
        if not upload.prepare():
            return self._import_page(request, form, **upload.context())
        try:
            answer = self.guarded(request, self._write, upload)
        except ValidationError as error:
            upload.refusal = " ".join(error.messages)
            return self._import_page(request, form, **upload.context())
        if not isinstance(answer, HttpResponseRedirect):  # a guard's own page cannot send the file
            upload.asked = cast(TemplateResponse, answer).context_data or {}
            return self._import_page(request, form, **upload.context())
        if not upload.run.generated:
            return answer
        list(messages.get_messages(request))  # the file is the answer, and says it
        file = io.BytesIO()
        export_secrets(file, upload.run.generated, Format.CSV)
        return download(file, f"secrets-{timezone.now():%Y%m%d-%H%M%S}.csv", Format.CSV)

    def _write(self, request: HttpRequest, upload: Upload) -> HttpResponse:
        with history.origin(history.Origin.IMPORT, user=request.user, reason=upload.reason):
            upload.run.write()
        counts = upload.run.counts
        done = _("“%(name)s” was imported. Devices: %(new)s new, %(changed)s changed.") % {
            "name": isolated(upload.name),
            "new": f"{counts['new']:,}",
            "changed": f"{counts['changed']:,}",
        }
        messages.success(request, with_undo(done, request.user, Device))
        return redirect("admin:devices_device_changelist")

    def _import_page(
        self, request: HttpRequest, form: ImportForm, **context: Any
    ) -> TemplateResponse:
        if not request.user.has_perm("devices.add_presharedkey"):
            for name in ("generate", "random"):  # choices that would be refused
                del form.fields[name]
        return self.page(
            request,
            "admin/devices/transfer/import.html",
            media=self.media,
            title=_("Import devices"),
            form=form,
            formats=Format.choices,
            most_bytes=MAX_BYTES,
            **context,
        )

    @own_page("import/template/", needs="import")
    def import_template(self, request: HttpRequest) -> HttpResponseBase:
        table = "groups" if request.GET.get("table") == "groups" else "devices"
        wanted = request.GET.get("format", "")
        kind = Format(wanted) if wanted in Format.values else Format.CSV
        file = io.BytesIO()
        template(file, table, kind)
        return download(file, f"{table}.{kind}", kind)

    # --- Out --------------------------------------------------------------------------------

    @own_page("export/", "export", needs="view")
    def export_page(self, request: HttpRequest) -> HttpResponseBase:
        """Return the devices of the list, as filtered and searched, as a file; or ask which."""
        wanted, separator = request.GET.get("format", ""), request.GET.get("separator", "")
        filters = request.GET.copy()
        for own in ("format", "separator", "p", "o", "all"):
            filters.pop(own, None)
        request.GET = filters  # type: ignore[assignment]
        try:
            listed: Any = self.get_changelist_instance(request)
        except IncorrectLookupParameters:
            messages.error(request, _("Nothing was exported: the list cannot be narrowed so."))
            return redirect("admin:devices_device_changelist")
        devices = Device.objects.all()
        is_filtered = bool(listed.query or listed.get_filters_params())
        if is_filtered and len(listed.found_keys) <= MAX_LISTED:
            devices = devices.filter(pk__in=listed.found_keys)  # which no batch looks for again
        elif is_filtered:
            devices = listed.queryset
        refusal = ""
        try:
            check_choices(listed)
            if wanted in Format.values:
                return self._exported(devices, Format(wanted), separator)
        except ValidationError as error:
            refusal = " ".join(error.messages)
        return self.page(
            request,
            "admin/devices/transfer/export.html",
            media=self.media,
            title=_("Export devices"),
            total=hits(listed),
            is_filtered=is_filtered,
            filters=[(name, value) for name, values in filters.lists() for value in values],
            formats=Format.choices,
            separators=SEPARATORS.items(),
            refusal=refusal,
        )

    @staticmethod
    def _exported(devices: DeviceQuerySet, kind: Format, separator: str) -> HttpResponseBase:
        name = f"devices-{timezone.now():%Y%m%d}.{kind}"
        if kind == Format.XLSX:
            export = export_devices(devices, kind)
            answer = download(export.file, name, kind)
            answer["X-Row-Count"] = str(export.rows)
            return answer
        return StreamingHttpResponse(
            devices_in_pieces(devices, kind, separator if separator in SEPARATORS else ","),
            content_type=kind.content_type,
            headers={"Content-Disposition": content_disposition_header(True, name)},
        )
