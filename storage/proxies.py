"""Proxies of the environment, and what must not go through them: a server on this machine's loopback, which no proxy reaches."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

LOOPBACK = ("127.0.0.1", "localhost", "::1")
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


def _named_proxies() -> dict[str, str]:
    """The proxies that this process's environment names, by variable."""
    names = [spelling for name in PROXIES for spelling in (name, name.lower())]
    return {name: value for name in names if (value := os.environ.get(name))}


def reach_loopback_directly() -> None:
    """Add loopback to NO_PROXY, for this process and those that it starts, where a proxy is named; what is in NO_PROXY stays."""
    if not _named_proxies():
        return
    given = os.environ.get("NO_PROXY", "")
    for name, value in (("NO_PROXY", given), ("no_proxy", os.environ.get("no_proxy", given))):  # where both are set, the latter is read
        hosts = [host.strip() for host in value.split(",") if host.strip()]
        if "*" not in hosts:
            os.environ[name] = ",".join([*hosts, *(host for host in LOOPBACK if host not in hosts)])


@contextlib.contextmanager
def without_socks_proxies() -> Iterator[None]:
    """Hide SOCKS proxies for the length of the block: httpx fails on one even where NO_PROXY says not to use it."""
    hidden = {name: value for name, value in _named_proxies().items() if value.lower().startswith("socks")}
    for name in hidden:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(hidden)
