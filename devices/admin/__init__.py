"""What staff see of devices and their credentials; importing it registers the pages."""

from devices.admin import certificate, device  # noqa: F401
