"""RTIO servers, the routes of their device services, and the sessions that are ended at them."""

from rpc.rtio.models.route import DeviceServiceRoute
from rpc.rtio.models.server import RtioServer, TlsMode
from rpc.rtio.models.session_ending import Cause, EndingState, SessionEnding

__all__ = ["Cause", "DeviceServiceRoute", "EndingState", "RtioServer", "SessionEnding", "TlsMode"]
