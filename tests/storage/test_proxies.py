"""What goes through a proxy of the environment, and what does not."""

from __future__ import annotations

import os
import urllib.request

import pytest

from storage.proxies import LOOPBACK, reach_loopback_directly, without_socks_proxies

VARIABLES = [spelling for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY") for spelling in (name, name.lower())]


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.setenv(name, "")  # so that what a test makes is undone
        monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("given", "left_alone"),
    [
        ({"HTTP_PROXY": "http://proxy:3128"}, ""),
        ({"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": "example.org, .example.net"}, "example.org"),
        ({"all_proxy": "socks5://proxy:1080", "no_proxy": "example.org"}, "example.org"),
        ({"http_proxy": "http://proxy:3128", "NO_PROXY": "old.example", "no_proxy": "example.org"}, "example.org"),
        ({"http_proxy": "http://proxy:3128", "NO_PROXY": f"example.org,{LOOPBACK[0]}"}, "example.org"),
    ],
)
def test_loopback_goes_without_and_other_hosts_as_before(given: dict[str, str], left_alone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As urllib, which httpx and botocore ask, reads the variables. Calling again changes nothing."""
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    reach_loopback_directly()
    once = {name: os.environ.get(name) for name in VARIABLES}
    assert all(urllib.request.proxy_bypass(host) for host in LOOPBACK)
    assert not urllib.request.proxy_bypass("prefect.example.com")
    assert bool(left_alone) == bool(urllib.request.proxy_bypass("example.org"))
    reach_loopback_directly()
    assert {name: os.environ.get(name) for name in VARIABLES} == once


def test_without_a_proxy_and_with_every_host_excluded_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    reach_loopback_directly()
    assert not {"NO_PROXY", "no_proxy"} & os.environ.keys()
    monkeypatch.setenv("HTTP_PROXY", "http://proxy:3128")
    monkeypatch.setenv("NO_PROXY", "*")
    reach_loopback_directly()
    assert os.environ["NO_PROXY"] == "*"
    assert "no_proxy" not in os.environ


def test_a_socks_proxy_is_hidden_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5h://proxy:1080")
    monkeypatch.setenv("HTTP_PROXY", "http://proxy:3128")
    with without_socks_proxies():
        assert "ALL_PROXY" not in os.environ
        assert os.environ["HTTP_PROXY"] == "http://proxy:3128"
    assert os.environ["ALL_PROXY"] == "socks5h://proxy:1080"
