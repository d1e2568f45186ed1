"""What staff see of devices and their credentials; importing it registers the pages."""

from devices.admin import authority, certificate, device, group, pre_shared_key  # noqa: F401
