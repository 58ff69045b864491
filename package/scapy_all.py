"""Stands in for scapy.all in the app that bundles scapy: only what the app captures with."""

import scapy.arch
import scapy.supersocket  # noqa: F401 - fills in conf's sockets, as the import above its interfaces
from scapy.config import conf
from scapy.error import Scapy_Exception
from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether

__all__ = ["IP", "Ether", "IPv6", "Scapy_Exception", "conf"]
