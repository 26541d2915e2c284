"""A consumer in Django: the effect of a webhook and the position in one transaction.

In a project, the models are in an app's ``models.py`` and :func:`consume` is a management command.

    MASTER_URL=https://master.example TOKEN=… DATABASE=shop.sqlite3 python django_consumer.py
"""

from __future__ import annotations

import os

import django
from django.conf import settings

from portable_core.client import follow

settings.configure(
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ["DATABASE"]}},
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
)
django.setup()

from django.db import connection, models, transaction  # noqa: E402  # after the settings


class Position(models.Model):
    """How far the consumer ``name`` has read the feed."""

    name = models.CharField(max_length=50, primary_key=True)
    position = models.TextField()

    class Meta:
        app_label = "shop"


class Order(models.Model):
    """The effect of one webhook; the unique key makes it happen once."""

    key = models.CharField(max_length=32, unique=True)
    number = models.IntegerField()

    class Meta:
        app_label = "shop"


def create_tables() -> None:
    """Create missing tables, as ``migrate`` does in a project."""
    known = connection.introspection.table_names()
    with connection.schema_editor() as editor:
        for model in (Position, Order):
            if model._meta.db_table not in known:
                editor.create_model(model)


def consume() -> None:
    """Follow the feed from the saved position on."""
    saved = Position.objects.filter(name="shop").first()
    after = saved.position if saved else None
    for webhook in follow(os.environ["MASTER_URL"], os.environ["TOKEN"], after=after):
        with transaction.atomic():
            number = webhook.data["number"]
            Order.objects.get_or_create(key=webhook.key, defaults={"number": number})
            Position.objects.update_or_create(name="shop", defaults={"position": webhook.position})


if __name__ == "__main__":
    create_tables()
    consume()
