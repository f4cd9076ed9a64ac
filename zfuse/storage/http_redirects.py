"""Where an HTTP answer may send a reader, given where he was allowed to go."""

import socket
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final
from urllib.parse import quote, urljoin, urlsplit

from zfuse.errors import StorageError
from zfuse.storage.http_session import HttpAnswer

_STATUSES: Final = {301, 302, 303, 307, 308}
_KEPT_AS_THEY_ARE: Final = "%:/?#[]@!$&'()*+,;=~"


def redirected(url: str, answer: HttpAnswer) -> str | None:
    """Return where *answer* redirects the request for *url*; None if it does not.

    Raises:
        StorageError: it leads from https to http, or from a public host into the private
            network, or to what is no URL, or one that holds credentials.
    """
    location = answer.headers.get("Location")
    if answer.status not in _STATUSES or location is None:
        return None
    try:
        # Some servers send what should have been quoted.
        target = urljoin(url, quote(location.encode("latin-1"), safe=_KEPT_AS_THEY_ARE))
        old, new = urlsplit(url), urlsplit(target)
        host = new.hostname
    except ValueError as exc:
        raise StorageError(f"{url} redirects to what is no valid URL") from exc
    refused = None
    if new.scheme not in {"http", "https"} or not host:
        refused = "redirects to what is not on the web"
    elif "@" in new.netloc:
        refused = "redirects to an URL with credentials in it"
    elif (old.scheme, new.scheme) == ("https", "http"):
        refused = f"redirects from https to plain http, on {host}"
    elif _is_internal(host) and not _is_internal(old.hostname or ""):
        refused = f"redirects into a private network, to {host}"
    if refused is not None:
        raise StorageError(f"{url} {refused}: not followed")
    return target


def _is_internal(host: str) -> bool:
    """Tell whether *host* is by its looks on this machine or in a private network."""
    host = host.rstrip(".").lower()
    if host == "localhost" or host.endswith(".localhost"):
        return True
    address = _address(host)
    return address is not None and not address.is_global


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host)
    except ValueError:
        pass
    try:  # the resolver also takes 127.1, 0x7f000001 and their like
        return IPv4Address(socket.inet_aton(host))
    except (OSError, ValueError):
        return None
