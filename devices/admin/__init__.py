"""What staff see of devices and their credentials; importing it registers the pages."""

from devices.admin import (  # noqa: F401
    attribute,
    authority,
    certificate,
    device,
    group,
    pre_shared_key,
    webhook,
)
