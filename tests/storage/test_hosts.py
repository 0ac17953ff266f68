"""Which processes live: of this machine, of another boot of it, of another machine."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable

import pytest

from storage.hosts import is_gone, start_of, this_host


def changed(part: int) -> str:
    """This host with another machine (1), boot (2) or pid namespace (3)."""
    parts = this_host().split(" ")
    return " ".join([*parts[:part], "0" * 8, *parts[part + 1 :]])


def test_a_process_of_this_machine_is_gone_when_it_has_ended_or_its_number_is_anothers() -> None:
    with subprocess.Popen(["sleep", "60"]) as other:
        start = start_of(other.pid) or 0
        assert not is_gone(this_host(), other.pid, start)
        assert not is_gone(this_host(), other.pid, 0)
        assert is_gone(this_host(), other.pid, start + 1)
        other.kill()
        while not is_gone(this_host(), other.pid, start):  # a zombie has ended too
            pass
    assert is_gone(this_host(), other.pid, start)


@pytest.mark.parametrize(
    ("host", "gone"),
    [(lambda: changed(1), False), (lambda: changed(2), True), (lambda: changed(3), False), (lambda: "", False), (lambda: "a b", False)],
    ids=["another machine", "this machine, before it was started anew", "another pid namespace", "nothing", "too little"],
)
def test_of_other_places_only_an_earlier_boot_of_this_machine_is_known_to_be_gone(host: Callable[[], str], gone: bool) -> None:
    """After a power cut nobody waits for who died with it."""
    assert is_gone(host(), os.getpid(), 1) == gone


def test_who_belongs_to_somebody_else_is_alive() -> None:
    """Where /proc hides other people's processes, one that cannot be seen has not ended."""
    if os.geteuid() == 0:
        os.seteuid(65534)
    try:
        assert not is_gone(this_host(), 1, 0)
    finally:
        if os.getuid() == 0:
            os.seteuid(0)
