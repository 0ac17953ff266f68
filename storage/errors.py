"""The error tree, sorted by who must act.

CaravanError
├── ConfigError      the user: a recipe or execution file is wrong; raised before any work
├── InputError       nobody at once: a record or a file is bad; it is quarantined, counted, and the run goes on up to a stated fraction
├── RetryableError   the machine: storage or network; retried with backoff
├── DiskError        an operator: a disk is full, read-only, over its quota, or forbids; no try mends it
└── IntegrityError   an operator: bytes do not match their manifest; everything stops
"""

from __future__ import annotations


class CaravanError(Exception):
    """Root of every error that Caravan raises on purpose."""


class ConfigError(CaravanError):
    """A recipe or an execution file asks for something that cannot be done; the message names field, value and bound."""


class InputError(CaravanError):
    """A record or a file of the input is bad.

    Attributes: `reason` (a short countable word), `file` (relative path), `offset` (bytes, or row for Parquet; None = the whole file),
    `detail` (free text).
    """

    def __init__(self, reason: str, *, file: str, offset: int | None = None, detail: str = "") -> None:
        self.reason, self.file, self.offset, self.detail = reason, file, offset, detail
        place = file if offset is None else f"{file} at {offset}"
        super().__init__(f"{place}: {reason}" + (f" ({detail})" if detail else ""))

    def __reduce__(self) -> tuple[object, ...]:
        return (_input_error, (self.reason, self.file, self.offset, self.detail))


def _input_error(reason: str, file: str, offset: int | None, detail: str) -> InputError:
    return InputError(reason, file=file, offset=offset, detail=detail)


class RetryableError(CaravanError):
    """Storage or network failed in a way that another try can mend."""


class DiskError(CaravanError):
    """A disk of this machine refuses: it is full, read-only, over its quota, or forbids. Another try would be refused too.

    Attributes: `path`, `folder` (which of Caravan's folders it is in, as `the store /data`; "" = another), `problem` (the system's word).
    """

    def __init__(self, path: str, *, folder: str, problem: str, needed: str = "") -> None:
        self.path, self.folder, self.problem, self.needed = path, folder, problem, needed
        where = f"{path} (in {folder})" if folder else path
        super().__init__(
            f"{where}: {problem}" + (f"; {needed}" if needed else "") + "; what is finished is kept: mend it, and the same command goes on"
        )

    def __reduce__(self) -> tuple[object, ...]:
        return (_disk_error, (self.path, self.folder, self.problem, self.needed))


def _disk_error(path: str, folder: str, problem: str, needed: str) -> DiskError:
    return DiskError(path, folder=folder, problem=problem, needed=needed)


class IntegrityError(CaravanError):
    """Bytes do not match what their manifest promised.

    Attributes: `file`, `expected`, `actual` (digests, sizes or descriptions), `remedy` (what to do; "" = nothing is known).
    """

    def __init__(self, file: str, *, expected: str, actual: str, remedy: str = "") -> None:
        self.file, self.expected, self.actual, self.remedy = file, expected, actual, remedy
        super().__init__(f"{file}: expected {expected}, found {actual}" + (f"; {remedy}" if remedy else ""))

    def __reduce__(self) -> tuple[object, ...]:
        return (_integrity_error, (self.file, self.expected, self.actual, self.remedy))


def _integrity_error(file: str, expected: str, actual: str, remedy: str) -> IntegrityError:
    return IntegrityError(file, expected=expected, actual=actual, remedy=remedy)
