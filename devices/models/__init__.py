"""The registry's rows: devices and groups, and the credentials that devices show."""

from devices.models.devices import Device, DeviceGroup
from devices.models.keys import PreSharedKey

__all__ = ["Device", "DeviceGroup", "PreSharedKey"]
