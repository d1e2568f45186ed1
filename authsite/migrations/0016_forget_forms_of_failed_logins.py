"""Of failed logins nothing is kept that was sent, on the page for a new password two of them.

What is kept from before is forgotten; servers of the release before still keep it.
"""

from django.db import migrations


def forget_forms(apps, schema_editor):
    apps.get_model("axes", "AccessAttempt").objects.update(get_data="", post_data="")


class Migration(migrations.Migration):
    dependencies = [
        ("authsite", "0015_changes_by_the_registry"),
        ("axes", "0010_accessattemptexpiration"),
    ]

    operations = [migrations.RunPython(forget_forms, migrations.RunPython.noop, elidable=True)]
