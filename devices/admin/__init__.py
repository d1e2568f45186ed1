"""What staff see of devices and their credentials; importing it registers the pages."""

from devices.admin import attribute, authority, certificate, device, group, pre_shared_key, webhook  # noqa: F401
