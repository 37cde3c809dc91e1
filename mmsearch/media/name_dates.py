"""Dates in the names of files, as phones, messengers and programs give them: a last resort."""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime
from typing import Any

_DAY = r"(?P<year>(?:19|20)\d\d)(?P<sep>[-_. ]?)(?P<month>0[1-9]|1[0-2])(?P=sep)(?P<day>0[1-9]|[12]\d|3[01])"
_TIME = (
    r"(?:[-_. T]{0,3}|,? (?:at|um|v|à|kl\.) )(?P<hour>[01]?\d|2[0-3])[-_.:h ]?(?P<minute>[0-5]\d)"
    r"(?:[-_.:m ]?(?P<second>[0-5]\d))?(?:[ \u202f]?(?P<half>[AaPp])\.?[Mm]\b)?"
)
_DATE = re.compile(rf"(?<!\d){_DAY}(?:{_TIME})?(?!\d{{1,2}}(?!\d))")
_EPOCH = re.compile(r"(?<!\d)(1[0-9]{9})(\d{3})?(?!\d)")
"""Seconds, or milliseconds, since 1970, as Facebook's and WhatsApp's older names have them."""
_FIRST_S = 1_000_000_000
_IN_UTC = re.compile(r"PXL_")
"""Names of which it is known that their time is UTC."""


def date_of_name(path: bytes) -> dict[str, Any]:
    """Return the date in a file's name as a field of `FileFacts`, nothing where there is none.

    It is local time; where only the day stands there, the beginning of it.
    """
    name = os.path.basename(os.fsdecode(path))[:255]  # noqa: PTH119
    found = _DATE.search(name)
    try:
        if found is not None:
            return {"taken_at": _datetime(found, name)}
        stamp = _EPOCH.search(name)
        if stamp is not None and int(stamp[1]) >= _FIRST_S and (stamp[2] or "_" in name):
            return {"taken_at": datetime.fromtimestamp(int(stamp[1]), UTC)}
    except ValueError:  # 31 February
        pass
    return {}


def _datetime(found: re.Match[str], name: str) -> datetime:
    hour = int(found["hour"] or 0)
    if half := found["half"]:
        hour = hour % 12 + (12 if half in "Pp" else 0)
    day = (int(found["year"]), int(found["month"]), int(found["day"]))
    zone = UTC if _IN_UTC.match(name) and found["hour"] else None
    return datetime(*day, hour, int(found["minute"] or 0), int(found["second"] or 0), tzinfo=zone)
