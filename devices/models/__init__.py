"""The registry's rows: devices and groups, and the credentials that devices show."""

from devices.models.authorities import CertificateAuthority, RevocationList, RevokedSerial
from devices.models.certificates import Certificate
from devices.models.devices import CredentialState, Device, DeviceGroup
from devices.models.keys import PreSharedKey
from devices.models.memberships import Membership

__all__ = [
    "Certificate",
    "CertificateAuthority",
    "CredentialState",
    "Device",
    "DeviceGroup",
    "Membership",
    "PreSharedKey",
    "RevocationList",
    "RevokedSerial",
]
