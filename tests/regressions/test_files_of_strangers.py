"""No stranger's file reaches the disk, and of a file of staff no more than a page takes.

CWE-770, CWE-400. Django looks for the token of a form before anybody is asked who they are, and
writes the files in it to the disk meanwhile, of whatever size: any page of the admin, the choice of
a language and a provider's log-out took them. CVE-2023-24580 is about the number of such files.
"""

from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile, TemporaryUploadedFile
from django.test import Client
from django.urls import reverse

from devices.credentials.crl import MAX_LIST_BYTES
from devices.models import CertificateAuthority
from tests.support.pki import authority

pytestmark = [pytest.mark.django_db, pytest.mark.once(on="sqlite")]
LARGE = 3 * 1024 * 1024  # more than is kept in memory


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Return the files that are made for uploads."""
    made: list[Path] = []
    begin = TemporaryUploadedFile.__init__

    def note(self: Any, *args: Any, **kwargs: Any) -> None:
        begin(self, *args, **kwargs)
        made.append(Path(self.temporary_file_path()))

    monkeypatch.setattr(TemporaryUploadedFile, "__init__", note)
    return made


@pytest.fixture
def stranger() -> Client:
    client = Client(enforce_csrf_checks=True)
    client.get("/admin/login/")  # which sets the cookie without which no form is read
    return client


def upload(size: int = LARGE) -> SimpleUploadedFile:
    return SimpleUploadedFile("a.bin", bytes(size))


@pytest.mark.parametrize(
    "address",
    ["/admin/login/", "/admin/language/", "/admin/devices/device/import/", "/admin/nothing/"],
)
def test_a_strangers_file_is_dropped(stranger: Client, written: list[Path], address: str) -> None:
    stranger.post(address, {"file": upload(), "x": "y"})
    assert written == []


def test_nor_does_a_log_out_of_the_provider_take_one(
    client: Client, settings: Any, written: list[Path]
) -> None:
    settings.OIDC_ISSUER = "https://id.example.com"
    client.post("/admin/sign-on/back-channel-logout/", {"logout_token": upload()})
    assert written == []


def test_the_rest_of_a_strangers_form_is_read(stranger: Client) -> None:
    User.objects.create_superuser("kim", password="a long enough password")
    sent = {
        "file": upload(),  # before the token
        "csrfmiddlewaretoken": stranger.cookies["csrftoken"].value,
        "username": "kim",
        "password": "a long enough password",
    }
    assert stranger.post("/admin/login/", sent)["Location"] == "/admin/"


def test_staff_send_a_list_and_no_more(admin_client: Client, written: list[Path]) -> None:
    anchor = CertificateAuthority.objects.register(name="root", presented=authority("Root").pem)
    address = reverse("admin:devices_certificateauthority_load_list", args=[anchor.pk])
    sizes: list[int] = []
    close = TemporaryUploadedFile.close

    def measure(self: Any) -> None:
        sizes.append(self.size)
        close(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TemporaryUploadedFile, "close", measure)
        answer = admin_client.post(address, {"file": upload(MAX_LIST_BYTES + LARGE)})
    assert "longer than 16 MiB" in answer.content.decode()
    assert len(written) == 1
    assert max(sizes) <= MAX_LIST_BYTES + 2 * 64 * 1024
