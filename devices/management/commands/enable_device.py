from devices.management.commands import disable_device


class Command(disable_device.Command):
    help = "Let devices connect again, with the credentials that they have."
    enables = True
