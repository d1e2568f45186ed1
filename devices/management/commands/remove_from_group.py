from devices.management.commands import add_to_group
from devices.models.device import DeviceQuerySet


class Command(add_to_group.Command):
    help = "Take devices out of a group; the rules of the group concern them no longer."
    done = "removed"
    move = DeviceQuerySet.remove_from_group
