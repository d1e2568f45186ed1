"""The admin's pages that bring devices in from files and take them out."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.options import IncorrectLookupParameters
from django.core import signing
from django.core.exceptions import PermissionDenied, ValidationError
from django.core.files.uploadedfile import UploadedFile
from django.core.files.uploadhandler import MemoryFileUploadHandler
from django.http import (
    HttpRequest,
    HttpResponseBase,
    HttpResponseRedirect,
    StreamingHttpResponse,
)
from django.template.loader import render_to_string
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.decorators import method_decorator
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.csrf import csrf_exempt, csrf_protect

from devices.models import Device
from devices.reauthentication import is_recent
from devices.transfer.exporting import export_devices, export_secrets, template
from devices.transfer.formats import MAX_BYTES, Format, dumps, format_of, read
from devices.transfer.importing import MAX_HASHES, Columns, Import, Options, Progress

EVENTS = "application/x-ndjson"  # what the page's script asks for, in place of a page
SHOWN = 200  # errors and warnings on a page
SAMPLE = 20  # devices in a preview
PREVIEW_LIFE = 60 * 60  # seconds


class InMemoryUpload(MemoryFileUploadHandler):
    """Keeps an upload off the disk, since there may be secrets in it; what is too much is dropped.

    The size is noted all the same, so that the form can say what is wrong.
    """

    def handle_raw_input(self, *args: Any, **kwargs: Any) -> None:
        """Take on uploads of any size."""
        self.activated = True

    def receive_data_chunk(self, raw_data: bytes, start: int) -> bytes | None:
        """Keep what is within the limit."""
        if start <= MAX_BYTES:
            super().receive_data_chunk(raw_data, start)
        return None


class ImportForm(forms.Form):
    """A file, and what staff say of it as a whole."""

    file = forms.FileField(
        label=gettext_lazy("File"),
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

    def clean_file(self) -> "UploadedFile[Any]":
        """Refuse what is too large or of no known format."""
        file: UploadedFile[Any] = self.cleaned_data["file"]
        if (file.size or 0) > MAX_BYTES:
            raise ValidationError(
                _("The file is larger than %(most)d MiB; split it."),
                params={"most": MAX_BYTES // 1024**2},
            )
        format_of(file.name or "")
        return file


@dataclass
class Upload:
    """A file that was sent, with the preview of it that was confirmed, if one was."""

    request: HttpRequest
    form: ImportForm
    refusal: str = ""
    outdated: bool = False
    done: bool = False
    unconfirmed: bool = False

    def __post_init__(self) -> None:
        """Read the file; it is in memory, and stays nowhere else."""
        file = self.form.cleaned_data["file"]
        content = file.read()
        self.name = file.name
        self.options = Options(
            **{
                name: self.form.cleaned_data[name]
                for name in ("create_groups", "generate", "random")
            }
        )
        self.fingerprint = hashlib.sha256(content).hexdigest()
        self.run = Import(
            read(content, format_of(self.name), Columns()),
            self.options,
            user=self.request.user,
            reason=self.name,
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
        }

    @property
    def token(self) -> str:
        """The preview, signed."""
        return signing.dumps(self.preview, salt=__name__)

    def steps(self) -> Iterator[Progress]:
        """Check the file and, where what came of it was confirmed, import it."""
        try:
            yield from self.run.check()
            self._check_permitted()
            if self.run.is_sound and self._is_confirmed():
                yield from self.run.prepare()
                yield from self.run.write()
                self.done = True
        except ValidationError as error:
            self.refusal = " ".join(error.messages)

    def _is_confirmed(self) -> bool:
        token = self.request.POST.get("confirmed", "")
        if not token:
            return False
        try:
            seen = signing.loads(token, salt=__name__, max_age=PREVIEW_LIFE)
        except signing.BadSignature:
            seen = None
        self.outdated = seen != self.preview
        return not self.outdated

    def _check_secrets_permitted(self) -> None:
        if not is_recent(self.request):
            self.unconfirmed = True
            raise ValidationError(
                _("Before secrets are issued, you have to show once more who you are.")
            )
        self._need("devices.add_presharedkey")

    def _check_permitted(self) -> None:
        counts = self.run.counts
        if counts["secrets"]:
            self._check_secrets_permitted()
        needed = {
            "devices.add_certificate": counts["certificates"],
            "devices.add_devicegroup": counts["groups_new"],
            "devices.change_devicegroup": counts["groups_changed"],
        }
        for permission, number in needed.items():
            if number:
                self._need(permission)

    def _need(self, permission: str) -> None:
        if not self.request.user.has_perm(permission):
            raise ValidationError(str(NOT_PERMITTED[permission]), code="permission")

    def context(self) -> dict[str, Any]:
        """Return what the page says of the outcome."""
        run, counts = self.run, self.run.counts
        kinds = ("new", "changed", "unchanged", "rejected")
        return {
            "upload": self,
            "counts": counts,
            "kinds": KINDS.values(),
            "tables": [
                (_("Devices"), [counts[kind] for kind in kinds]),
                (_("Groups"), [counts[f"groups_{kind}"] for kind in kinds]),
            ],
            "problems": run.problems[:SHOWN],
            "more_problems": max(0, run.problem_total - SHOWN),
            "warnings": run.warnings[:SHOWN],
            "more_warnings": max(0, run.warning_total - SHOWN),
            "sample": run.entries[:SAMPLE],
            "secrets_name": f"secrets-{timezone.now():%Y%m%d-%H%M%S}.csv",
        }


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
STAGES = {
    "check": gettext_lazy("Rows checked"),
    "prepare": gettext_lazy("Secrets prepared"),
    "write": gettext_lazy("Devices written"),
}


class ImportExportMixin:
    """The pages of a device's admin that import and export."""

    def get_urls(self) -> list[URLPattern]:
        """Add the pages."""
        wrap = self.admin_site.admin_view  # type: ignore[attr-defined]
        # The upload must be taken over before anything reads the form: its token is checked then.
        pages = [
            path("import/", wrap(csrf_exempt(self.import_page)), name="devices_device_import"),
            path(
                "import/template/",
                wrap(self.import_template),
                name="devices_device_import_template",
            ),
            path("export/", wrap(self.export_page), name="devices_device_export"),
        ]
        urls: list[URLPattern] = super().get_urls()  # type: ignore[misc]
        return [*pages, *urls]

    # --- In ---------------------------------------------------------------------------------

    def import_page(self, request: HttpRequest) -> HttpResponseBase:
        """Check a file and show what would come of it; import it once that is confirmed."""
        if not request.user.has_perms(["devices.add_device", "devices.change_device"]):
            raise PermissionDenied
        if request.content_type == "multipart/form-data":  # others are read already, without files
            request.upload_handlers = [InMemoryUpload(request)]
        answer: HttpResponseBase = self._import(request)
        return answer

    @method_decorator(csrf_protect)
    def _import(self, request: HttpRequest) -> HttpResponseBase:
        sent = request.method == "POST"
        form = ImportForm(request.POST, request.FILES) if sent else ImportForm()
        streamed = sent and request.headers.get("Accept") == EVENTS
        if not form.is_valid():
            if streamed:
                page = self._outcome(request, {"form": form})
                return StreamingHttpResponse([dumps({"html": page})], content_type=EVENTS)
            return self._import_page(request, form)
        upload = Upload(request, form)
        if streamed:
            return StreamingHttpResponse(self._events(upload), content_type=EVENTS)
        for _step in upload.steps():
            pass
        if not upload.done:
            return self._import_page(request, form, **upload.context())
        if upload.run.generated:
            return _download(
                export_secrets(upload.run.generated, Format.CSV),
                upload.context()["secrets_name"],
                Format.CSV,
            )
        self.message_user(  # type: ignore[attr-defined]
            request, _("“%(name)s” was imported.") % {"name": upload.name}, messages.SUCCESS
        )
        return HttpResponseRedirect(reverse("admin:devices_device_changelist"))

    def _events(self, upload: Upload) -> Iterator[str]:
        """Yield a line for each step, then the secrets, then the outcome as HTML.

        Whoever closes the page before the end of the import has imported nothing.
        """
        for step in upload.steps():
            yield f"{dumps({**step._asdict(), 'stage': str(STAGES[step.stage])})}\n"
        if upload.done and upload.run.generated:
            for chunk in export_secrets(upload.run.generated, Format.CSV):
                yield f"{dumps({'secrets': chunk.decode()})}\n"
        yield f"{dumps({'html': self._outcome(upload.request, upload.context())})}\n"

    @staticmethod
    def _outcome(request: HttpRequest, context: dict[str, Any]) -> str:
        return render_to_string(
            "admin/devices/transfer/outcome.html", {**context, "scripted": True}, request
        )

    def _import_page(
        self, request: HttpRequest, form: ImportForm, **context: Any
    ) -> TemplateResponse:
        return self._transfer_page(
            request,
            "import",
            title=_("Import devices"),
            form=form,
            formats=Format.choices,
            most_bytes=MAX_BYTES,
            **context,
        )

    def import_template(self, request: HttpRequest) -> HttpResponseBase:
        """Return an empty table to fill in."""
        if not request.user.has_perms(["devices.add_device", "devices.change_device"]):
            raise PermissionDenied
        table = "groups" if request.GET.get("table") == "groups" else "devices"
        wanted = request.GET.get("format", "")
        kind = Format(wanted) if wanted in Format.values else Format.CSV
        return _download(template(table, kind), f"{table}.{kind}", kind)

    # --- Out --------------------------------------------------------------------------------

    def export_page(self, request: HttpRequest) -> HttpResponseBase:
        """Return the devices of the list, as filtered and searched, as a file; or ask which."""
        if not self.has_view_permission(request):  # type: ignore[attr-defined]
            raise PermissionDenied
        wanted = request.GET.get("format", "")
        filters = request.GET.copy()
        for own in ("format", "p", "o", "all"):
            filters.pop(own, None)
        request.GET = filters  # type: ignore[assignment]
        try:
            listed = self.get_changelist_instance(request)  # type: ignore[attr-defined]
        except IncorrectLookupParameters:
            return HttpResponseRedirect(reverse("admin:devices_device_changelist"))
        devices = Device.objects.all()
        if filters:
            devices = devices.filter(pk__in=listed.queryset.order_by().values("pk"))
        refusal = ""
        if wanted in Format.values:
            kind = Format(wanted)
            try:
                return _download(
                    export_devices(devices, kind), f"devices-{timezone.now():%Y%m%d}.{kind}", kind
                )
            except ValidationError as error:
                refusal = " ".join(error.messages)
        return self._transfer_page(
            request,
            "export",
            title=_("Export devices"),
            total=devices.count(),
            is_filtered=bool(filters),
            filters=[(name, value) for name, values in filters.lists() for value in values],
            formats=Format.choices,
            refusal=refusal,
        )

    def _transfer_page(self, request: HttpRequest, name: str, **context: Any) -> TemplateResponse:
        site: admin.AdminSite = self.admin_site  # type: ignore[attr-defined]
        return TemplateResponse(
            request,
            f"admin/devices/transfer/{name}.html",
            {
                **site.each_context(request),
                "opts": self.opts,  # type: ignore[attr-defined]
                "media": self.media,  # type: ignore[attr-defined]
                **context,
            },
        )


def _download(chunks: Iterable[bytes], name: str, kind: Format) -> StreamingHttpResponse:
    """Return a file to save."""
    response = StreamingHttpResponse(chunks, content_type=kind.content_type)
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    return response
