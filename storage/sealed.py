"""Small JSON files that prove themselves: manifests, runs, records of groups, leases, caches.

A sealed file is a JSON object with sorted keys whose `sha256` is that of the object without it, in the same form. It is read back only
when its bytes are exactly those that were written, so that one flipped bit anywhere, in a number, a name or a blank, is noticed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from storage.errors import ConfigError, IntegrityError

SEAL = "sha256"


def _plain(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body, indent=1, sort_keys=True).encode()


def seal(body: Mapping[str, Any]) -> bytes:
    """The bytes of a sealed file that holds `body` (plain JSON data, string keys, no key `sha256`)."""
    plain = json.loads(_plain(body))  # as a reader gets it: keys that are numbers become text, and sort as that
    assert SEAL not in plain
    return _plain({**plain, SEAL: hashlib.sha256(_plain(plain)).hexdigest()})


def unseal(data: bytes, *, where: str, what: str, remedy: str = "") -> dict[str, Any]:
    """The body of a sealed file. `where` names the file in errors, `what` says what it should be (`a manifest`).

    Raises IntegrityError, naming both sums, when it is not as it was written.
    """
    try:
        body = json.loads(data)
        said = str(body.pop(SEAL))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        detail = "no sha256 of itself" if isinstance(error, KeyError) else f"what is no such JSON ({error})"
        raise IntegrityError(where, expected=what, actual=detail, remedy=remedy) from error
    actual = hashlib.sha256(_plain(body)).hexdigest()
    if actual != said:
        raise IntegrityError(where, expected=f"{what} with sha256 {said}", actual=f"sha256 {actual}", remedy=remedy)
    if seal(body) != data:
        raise IntegrityError(where, expected=f"{what} as it was written", actual="the same values in other bytes", remedy=remedy)
    assert isinstance(body, dict)
    return body


def check_format(data: bytes, version: int, where: str) -> None:
    """Raises ConfigError for a whole file of an earlier format, which is no damage: before there were sums of themselves."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return
    if isinstance(found, dict) and SEAL not in found and isinstance(found.get("format"), int) and 0 < found["format"] < version:
        raise ConfigError(
            f"{where}: written by an earlier version of Caravan (format {found['format']}, this one writes {version}): give the execution"
            " file another `store`, or go on with the version that wrote it"
        )
