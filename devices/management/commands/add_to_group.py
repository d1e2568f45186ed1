"""Put devices into a group."""

from devices.management.membership import MembershipCommand
from devices.models import DeviceGroup
from devices.models.device import DeviceQuerySet


class Command(MembershipCommand):
    """`add_to_group`: devices that are named, all or none."""

    help = "Put devices into a group; the rules of the group then concern them."
    done = "added"

    def move(self, devices: DeviceQuerySet, group: DeviceGroup) -> int:
        """Put devices into the group; return how many that changed."""
        return devices.add_to_group(group)
