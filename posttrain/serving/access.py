"""Who may ask: the Host, the Origin and the token of a request, checked before anything else reads it.

A page in a user's browser can send requests to loopback, by its own name (DNS rebinding) or straight (a form, fetch). So on
loopback only loopback's own names are accepted as Host, and an Origin, which browsers add and other clients do not, only where it
is a page of this very server. Off loopback a token is required, and the Host may be any name that leads here.
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Mapping
from urllib.parse import urlsplit

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def refusal(headers: Mapping[str, str], *, host: str, port: int, token: str) -> tuple[int, str] | None:
    """The HTTP status and the reason why a request is refused; None for one that may pass."""
    asked = headers.get("host", "")
    name, given_port = name_and_port(asked)
    if is_loopback(host) and (name not in {*LOOPBACK_NAMES, host} or given_port not in (port, None)):
        return 403, f"the Host {asked[:80]!r} is not this server's"
    origin = headers.get("origin")
    if origin is not None and origin != f"http://{asked}":
        return 403, f"requests from pages of {origin[:80]!r} are not allowed"
    if token and not same(headers.get("authorization", ""), f"Bearer {token}"):
        return 401, "the token is missing or wrong; send it as Authorization: Bearer …"
    return None


def name_and_port(host: str) -> tuple[str, int | None]:
    try:
        parts = urlsplit(f"//{host}")
        return parts.hostname or "", parts.port
    except ValueError:
        return "", None


def same(given: str, expected: str) -> bool:
    """In constant time, so that the token cannot be guessed letter by letter."""
    return hmac.compare_digest(given.encode(), expected.encode())
