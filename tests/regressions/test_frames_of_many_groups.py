"""A frame about devices in many groups is answered in time, however its commands are cut.

CWE-407: the cost of one question is the product of what its sides are in. 28.8 s were measured with
SQLite for the frame below.
"""

import time

import pytest
from django.db import connection

from acl.engine.decisions import decide_many
from acl.models import CommandPermission
from devices.models import Device, DeviceGroup

GROUPS, REQUESTS = 40, 1000


@pytest.mark.parametrize("pairs", [1, REQUESTS])
def test_frame_of_many_groups_is_quick(db: None, pairs: int) -> None:
    senders, receivers = (
        DeviceGroup.objects.bulk_create(DeviceGroup(name=f"{side} {n}") for n in range(GROUPS))
        for side in ("senders", "receivers")
    )
    for side, groups in (("sender", senders), ("receiver", receivers)):
        devices = Device.objects.bulk_create(Device(identifier=f"{side} {n}") for n in range(pairs))
        Device.groups.through.objects.bulk_create(
            Device.groups.through(device=device, devicegroup=group)
            for device in devices
            for group in groups
        )
    CommandPermission.objects.bulk_create(
        CommandPermission(
            source_kind="group",
            source_group=sender,
            destination_kind="group",
            destination_group=receiver,
            pattern="*",
        )
        for sender in senders
        for receiver in receivers
    )
    if connection.vendor == "postgresql":  # which does so by itself after so many new rows
        with connection.cursor() as cursor:
            for model in (Device, DeviceGroup, Device.groups.through, CommandPermission):
                cursor.execute(f"ANALYZE {model._meta.db_table}")
    path = "/a" * 30
    requests = [
        (f"sender {n % pairs}", f"receiver {n % pairs}", f"{path}/{n}.Get") for n in range(REQUESTS)
    ]
    for pattern in ("/never/sent", "*"):
        CommandPermission.objects.update(pattern=pattern)
        began = time.thread_time()
        decisions = decide_many(requests)
        assert time.thread_time() - began < 2
        assert {decision.allowed for decision in decisions} == {pattern == "*"}
