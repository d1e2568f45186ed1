"""Take devices out of a group."""

from devices.management.membership import MembershipCommand
from devices.models import DeviceGroup
from devices.models.device import DeviceQuerySet


class Command(MembershipCommand):
    """`remove_from_group`: devices that are named, all or none."""

    help = "Take devices out of a group; the rules of the group concern them no longer."
    done = "removed"

    def move(self, devices: DeviceQuerySet, group: DeviceGroup) -> int:
        """Take devices out of the group; return how many that changed."""
        return devices.remove_from_group(group)
