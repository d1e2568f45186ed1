from django.db import migrations

from devices.database.constraints import know_origin

MODELS = ["apitoken", "serviceaccount"]
ORIGINS = [
    ("admin", "Admin"),
    ("api", "API"),
    ("command", "Command"),
    ("import", "Import"),
    ("shell", "Shell or script"),
    ("registry", "The registry itself"),
]


class Migration(migrations.Migration):
    dependencies = [("authsite", "0014_words_of_tokens")]

    operations = know_origin("authsite", MODELS, ORIGINS)
