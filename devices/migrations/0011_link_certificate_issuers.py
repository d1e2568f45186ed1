from itertools import islice
from typing import Any

from django.db import migrations

from devices.credentials import x509


def link(apps: Any, schema_editor: Any) -> None:
    """Write which registered authorities signed the registered certificates."""
    using = schema_editor.connection.alias
    certificates = apps.get_model("devices", "Certificate")
    links = certificates.issuers.through
    for authority in apps.get_model("devices", "CertificateAuthority").objects.using(using).all():
        issuer = x509.parsed(authority.pem)
        named = certificates.objects.using(using).filter(issuer=authority.subject)
        issued = (
            links(certificate_id=pk, certificateauthority_id=authority.pk)
            for pk, pem in named.values_list("pk", "pem").iterator(chunk_size=1000)
            if x509.is_issued_by(x509.read(pem).leaf, issuer)
        )
        while batch := list(islice(issued, 1000)):
            links.objects.using(using).bulk_create(batch)


class Migration(migrations.Migration):
    dependencies = [
        ("devices", "0010_certificate_issuers"),
    ]

    operations = [
        migrations.RunPython(link, migrations.RunPython.noop, elidable=True),
    ]
