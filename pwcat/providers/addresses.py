"""Which addresses of strangers are read: hrefs of a STAC answer are data, and must not reach this computer or its network.

A public STAC API could name ``file:///etc/passwd`` or ``http://169.254.169.254/`` as an asset. What is refused: local
files, paths and GDAL's own prefixes; addresses that are loopback, link-local, private or otherwise not of the public
internet, in whatever form (IPv6, IPv4 within IPv6, decimal, octal or hexadecimal numbers); names that resolve to such.

A name is resolved here and, by :mod:`pwcat.providers.guard`, once more for the connection itself, which goes to the addresses
that were judged. Of searches and of stores that are read past that, whoever reads resolves the name again.
"""

from __future__ import annotations

import functools
import ipaddress
import socket
import time
import unicodedata
from collections.abc import Sequence
from urllib.parse import urlsplit

from pwcat.errors import SourceError
from pwcat.providers.redaction import unsign

__all__ = ["check_address", "locate", "refusal"]

WEB = ("http", "https")
# Object stores: a bucket by name, never an address of a computer. Where they are is in the user's environment.
STORES = ("s3", "gs", "az", "azure", "abfs", "abfss")

# Names that never leave this computer or its network (RFC 6761, RFC 6762, RFC 8375, and ICANN's of 2024).
LOCAL_NAMES = ("localhost", "local", "internal", "home.arpa")

# For how long the addresses of a name are remembered.
REMEMBERED_S = 60

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# IPv6 that is of the public internet at all (RFC 4291), and what stands for IPv4 in networks without it (RFC 6052).
_UNICAST = ipaddress.ip_network("2000::/3")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")

# What Python takes for public, in some versions, and is not: protocol assignments (RFC 6890; clouds answer there), relays
# (RFC 7526), Azure's own address within each of its machines, documentation (RFC 9637).
_NOT_PUBLIC = tuple(
    ipaddress.ip_network(text) for text in ("192.0.0.0/24", "192.88.99.0/24", "168.63.129.16/32", "3fff::/20")
)


def check_address(href: str, *, resolve: bool = True) -> None:
    """Refuse an address of this computer, of its network, or of no kind that is read.

    Args:
        href: as a STAC answer has it.
        resolve: whether names are resolved; else only what the text itself says is judged.

    Raises:
        SourceError: it is refused; says why, and how to allow it.
    """
    why = refusal(href, resolve=resolve)
    if why is not None:
        raise SourceError(
            f"refused to read {unsign(href)!r}: {why}; addresses of a STAC answer must be public ({', '.join(WEB + STORES)}). "
            "If you trust this source, say `allow_private: true` in the recipe's source"
        )


def refusal(href: str, *, resolve: bool = True) -> str | None:
    """Why an address is not read; ``None`` where it may be."""
    if "\\" in href or any(character.isspace() or not character.isprintable() for character in href):
        return "it has a backslash or a blank in it"
    try:
        parts = urlsplit(href)
        host = parts.hostname
        _ = parts.port
    except ValueError as exc:
        return f"it is no address ({exc})"
    if parts.scheme in STORES:
        return None
    if parts.scheme not in WEB:
        return f"{parts.scheme}: is not read" if parts.scheme and "://" in href else "it is a file of this computer"
    if not host:
        return "it names no host"
    return _host_refusal(host, resolve=resolve)


def locate(url: str) -> tuple[Address, ...]:
    """Where a web server is: all its addresses, which are public; none where its name cannot be resolved.

    Raises:
        SourceError: one of them is not, or the name is of this computer or its network; says which.
    """
    host = urlsplit(url).hostname or ""
    literal = _literal(_plain(host))
    found = (literal,) if literal else _resolved(_plain(host), int(time.monotonic() // REMEMBERED_S))
    why = refusal(url, resolve=False) or _elsewhere(host, found)
    if why is not None:
        raise SourceError(why)
    return found


def _host_refusal(host: str, *, resolve: bool) -> str | None:
    name = _plain(host)
    if name in LOCAL_NAMES or name.endswith(tuple(f".{local}" for local in LOCAL_NAMES)):
        return f"{host} is this computer or its network"
    address = _literal(name)
    if address is not None:
        return None if _is_public(address) else f"{host} is {_kind(address)}"
    return _elsewhere(host, _resolved(name, int(time.monotonic() // REMEMBERED_S))) if resolve else None


def _elsewhere(host: str, found: Sequence[Address]) -> str | None:
    """Why a name is not read that is at these addresses."""
    return next((f"{host} is at {one}, which is {_kind(one)}" for one in found if not _is_public(one)), None)


def _plain(host: str) -> str:
    return unicodedata.normalize("NFKC", host).rstrip(".").lower()


def _literal(host: str) -> Address | None:
    """The address that a host is, in any form that a client takes for one; ``None`` for a name."""
    try:
        return ipaddress.ip_address(host.split("%")[0])
    except ValueError:
        pass
    try:
        return ipaddress.IPv4Address(socket.inet_aton(host))  # 127.1, 0x7f000001, 2130706433, 0177.0.0.1
    except OSError:
        return None


@functools.lru_cache(maxsize=1024)
def _resolved(name: str, moment: int) -> tuple[Address, ...]:
    """Addresses of a name; none where it cannot be resolved, which whoever reads will say."""
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return ()
    # In the resolver's order: what this computer cannot reach, as IPv6 where there is none, comes last
    return tuple(dict.fromkeys(ipaddress.ip_address(str(entry[4][0]).split("%")[0]) for entry in found))


def _is_public(address: Address) -> bool:
    return all(
        one.is_global
        and not one.is_multicast
        and not any(one in network for network in _NOT_PUBLIC)
        and (one.version == 4 or one in _UNICAST or one in _NAT64)
        for one in (address, *_within(address))
    )


def _within(address: Address) -> list[Address]:
    """IPv4 addresses that an IPv6 one stands for."""
    if isinstance(address, ipaddress.IPv4Address):
        return []
    inner = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    if address in _NAT64 or address not in _UNICAST:  # also those translated locally, and by means of old
        inner.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return [one for one in inner if one is not None]


def _kind(address: Address) -> str:
    for one in (*_within(address), address):
        if one.is_loopback or one.is_unspecified:
            return "this computer"
        if one.is_link_local:
            return "a link-local address"
    return "no public address"
