"""What staff see of devices and their credentials; importing it registers the pages."""

from devices.admin import attribute, device, group, webhook  # noqa: F401
from devices.admin.credentials import authority, certificate, pre_shared_key  # noqa: F401
