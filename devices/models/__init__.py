"""The registry's rows: devices and groups, and the credentials that devices show."""

from devices.events.models import Delivery, Event, EventStream, Webhook
from devices.models.attribute_definition import AttributeDefinition, AttributeType
from devices.models.credentials.authority import CertificateAuthority, RevocationList, RevokedSerial
from devices.models.credentials.certificate import Certificate
from devices.models.credentials.pre_shared_key import PreSharedKey
from devices.models.credentials.state import CredentialState
from devices.models.device import Device
from devices.models.group import DeviceGroup
from devices.models.heartbeat import Heartbeat
from devices.models.idempotent_answer import IdempotentAnswer
from devices.models.job import Job
from devices.models.lists import ListColumns, SavedFilter
from devices.models.membership import Membership

__all__ = [
    "AttributeDefinition",
    "AttributeType",
    "Certificate",
    "CertificateAuthority",
    "CredentialState",
    "Delivery",
    "Device",
    "DeviceGroup",
    "Event",
    "EventStream",
    "Heartbeat",
    "IdempotentAnswer",
    "Job",
    "ListColumns",
    "Membership",
    "PreSharedKey",
    "RevocationList",
    "RevokedSerial",
    "SavedFilter",
    "Webhook",
]
