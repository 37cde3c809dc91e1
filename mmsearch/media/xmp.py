"""XMP packets, in a picture or in a file beside it → what they say (ISO 16684-1, MWG guidelines)."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any
from xml.etree.ElementTree import Element

from mmsearch.media import metadata
from mmsearch.media.description import Description
from mmsearch.media.markup import name_of, parse

_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_LANGUAGE = "{http://www.w3.org/XML/1998/namespace}lang"
_CAPTIONS = (
    "dc:description", "dc:title", "photoshop:Headline", "acdsee:caption", "acdsee:notes", "exif:UserComment",
    "tiff:ImageDescription", "Iptc4xmpCore:AltTextAccessibility", "Iptc4xmpCore:ExtDescrAccessibility",
)  # fmt: skip
_KEYWORDS = ("dc:subject", "acdsee:keywords", "MicrosoftPhoto:LastKeywordXMP", "pdf:Keywords")
_PATHS = ("lr:hierarchicalSubject", "digiKam:TagsList", "mediapro:CatalogSets")
"""Keywords with those above them, as in `People|Anna` or `Animals/Birds/Goose`."""
_PEOPLE = ("Iptc4xmpExt:PersonInImage", "MPReg:PersonDisplayName", "mediapro:People")
_PLACE = (
    "Iptc4xmpCore:Location", "photoshop:City", "photoshop:State", "photoshop:Country",
)  # fmt: skip
_DATES = ("exif:DateTimeOriginal", "photoshop:DateCreated", "exif:DateTimeDigitized", "xmp:CreateDate")
_SPACES = {
    "http://purl.org/dc/elements/1.1/": "dc",
    "http://ns.adobe.com/photoshop/1.0/": "photoshop",
    "http://ns.acdsee.com/iptc/1.0/": "acdsee",
    "http://ns.adobe.com/exif/1.0/": "exif",
    "http://cipa.jp/exif/1.0/": "exifEX",
    "http://ns.adobe.com/exif/1.0/aux/": "aux",
    "http://ns.adobe.com/tiff/1.0/": "tiff",
    "http://ns.adobe.com/xap/1.0/": "xmp",
    "http://ns.adobe.com/pdf/1.3/": "pdf",
    "http://ns.adobe.com/lightroom/1.0/": "lr",
    "http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/": "Iptc4xmpCore",
    "http://iptc.org/std/Iptc4xmpExt/2008-02-29/": "Iptc4xmpExt",
    "http://www.digikam.org/ns/1.0/": "digiKam",
    "http://ns.iview-multimedia.com/mediapro/1.0/": "mediapro",
    "http://ns.microsoft.com/photo/1.0/": "MicrosoftPhoto",
    "http://ns.microsoft.com/photo/1.0": "MicrosoftPhoto",
    "http://ns.microsoft.com/photo/1.2/t/Region#": "MPReg",
    "http://www.metadataworkinggroup.com/schemas/regions/": "mwg-rs",
}
_PACKET = re.compile(rb"<(?:x:)?xmpmeta\b.*</(?:x:)?xmpmeta>|<rdf:RDF\b.*</rdf:RDF>", re.DOTALL)
_GPS = re.compile(r"(\d{1,3}(?:\.\d{1,12})?)(?:,(\d{1,2}(?:\.\d{1,12})?))?(?:,(\d{1,2}(?:\.\d{1,12})?))?([NSEW])")


def read_xmp(raw: bytes) -> Description:
    """Return what an XMP packet says. Raises `MediaError` where it is no sound XML."""
    packet = _PACKET.search(raw)
    values = _values(parse(packet[0] if packet else raw))
    return Description.of(
        _all(values, _CAPTIONS),
        (*_all(values, _KEYWORDS), *_ends(_all(values, _PATHS))),
        (*_all(values, _PEOPLE), *_faces(_all(values, _PATHS)), *values["face"]),
        **_facts(values),
    ).without_machine_text


def _values(root: Element) -> dict[str, list[str]]:
    """Return the texts of properties by their name with the usual prefix; of languages the default one first."""
    found: dict[str, list[str]] = defaultdict(list)
    for element in root.iter():
        own = _property(element.tag)
        for name, value in element.attrib.items():
            if (known := _property(name)) and value.strip():
                found[known].append(value)
        if own and own != "mwg-rs:Name":
            items = [each for each in element.iter(f"{{{_RDF}}}li") if (each.text or "").strip()]
            items.sort(key=lambda each: each.get(_LANGUAGE, "x-default") != "x-default")
            found[own] += [each.text or "" for each in items] or ([element.text] if element.text else [])
    found["face"] = list(_regions(root))
    return found


def _property(tag: str) -> str:
    space, local = name_of(tag)
    return f"{_SPACES[space]}:{local}" if space in _SPACES else ""


def _regions(root: Element) -> Iterator[str]:
    """Yield the names of faces that are marked in a picture: regions of the Metadata Working Group."""
    for element in root.iter():
        own = {_property(name): value for name, value in element.attrib.items()}
        own |= {_property(child.tag): child.text or "" for child in element}
        if own.get("mwg-rs:Name") and own.get("mwg-rs:Type", "Face") == "Face":
            yield own["mwg-rs:Name"]


def _all(values: dict[str, list[str]], names: Iterable[str]) -> list[str]:
    return [value for name in names for value in values[name]]


def _ends(paths: Iterable[str]) -> list[str]:
    return [re.split(r"[|/]", path)[-1] for path in paths if not _is_person(path)]


def _faces(paths: Iterable[str]) -> list[str]:
    return [re.split(r"[|/]", path)[-1] for path in paths if _is_person(path)]


def _is_person(path: str) -> bool:
    return bool(re.match(r"(?:people|personen|lidé|osoby|personnes)[|/]", path, re.IGNORECASE))


def _facts(values: dict[str, list[str]]) -> dict[str, Any]:
    dates = (metadata.date(value) for value in _all(values, _DATES))
    latitude, longitude = (_degrees(values[f"exif:GPS{name}"]) for name in ("Latitude", "Longitude"))
    first = {name: next(iter(own), None) for name, own in values.items()}
    place = ", ".join(dict.fromkeys(value for value in (metadata.words(first.get(name)) for name in _PLACE) if value))
    return {
        "taken_at": next(filter(None, dates), None),
        "camera": metadata.camera(first.get("tiff:Make"), first.get("tiff:Model")),
        "lens": metadata.lens(None, first.get("exifEX:LensModel") or first.get("aux:Lens")),
        "rating": metadata.rating(first.get("xmp:Rating"), first.get("MicrosoftPhoto:Rating")),
        "place": place[: metadata.MOST_CHARACTERS] or None,
        **metadata.place(latitude, longitude),
    }


def _degrees(values: list[str]) -> float | None:
    """Return degrees of `50,5,15N` or `50,5.25N`."""
    found = _GPS.fullmatch(values[0].strip()) if values else None
    if found is None:
        return None
    degrees = float(found[1]) + float(found[2] or 0) / 60 + float(found[3] or 0) / 3600
    return -degrees if found[4] in "SW" else degrees
