"""Packets of XMP, a bomb of XML, and what an index run makes of the words and facts in and beside files."""

from __future__ import annotations

from datetime import timedelta, timezone
from pathlib import Path

import mmsearch
from mmsearch import FileFacts, Settings
from mmsearch.records import Origin

SAID = "Großmutter füttert Gänse"
SUMMER = timezone(timedelta(hours=2))
SPACES = (
    'xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:xmp="http://ns.adobe.com/xap/1.0/" '
    'xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/" xmlns:exif="http://ns.adobe.com/exif/1.0/" '
    'xmlns:aux="http://ns.adobe.com/exif/1.0/aux/" xmlns:tiff="http://ns.adobe.com/tiff/1.0/" '
    'xmlns:lr="http://ns.adobe.com/lightroom/1.0/" xmlns:digiKam="http://www.digikam.org/ns/1.0/" '
    'xmlns:Iptc4xmpCore="http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/" '
    'xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" '
    'xmlns:mwg-rs="http://www.metadataworkinggroup.com/schemas/regions/" '
    'xmlns:MPReg="http://ns.microsoft.com/photo/1.2/t/Region#"'
)


def xmp(inside: str, attributes: str = "") -> bytes:
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        f'<rdf:Description rdf:about="" {SPACES} {attributes}>{inside}</rdf:Description></rdf:RDF></x:xmpmeta>'
        f'{" " * 100}<?xpacket end="w"?>'
    ).encode()


def bag(name: str, *items: str) -> str:
    return f"<{name}><rdf:Bag>{''.join(f'<rdf:li>{item}</rdf:li>' for item in items)}</rdf:Bag></{name}>"


def alt(name: str, words: str) -> str:
    return f'<{name}><rdf:Alt><rdf:li xml:lang="x-default">{words}</rdf:li></rdf:Alt></{name}>'


FULL = xmp(
    alt("dc:description", SAID)
    + bag("dc:subject", "goose", "Grandmother")
    + bag("lr:hierarchicalSubject", "Animals|Birds|goose", "People|Anna Nováková")
    + bag("Iptc4xmpExt:PersonInImage", "Jan Novák")
    + "<mwg-rs:Regions><mwg-rs:RegionList><rdf:Bag>"
    '<rdf:li><rdf:Description mwg-rs:Name="Eva" mwg-rs:Type="Face"/></rdf:li>'
    '<rdf:li><rdf:Description mwg-rs:Name="a car" mwg-rs:Type="Focus"/></rdf:li>'
    "</rdf:Bag></mwg-rs:RegionList></mwg-rs:Regions>",
    'xmp:Rating="4" exif:DateTimeOriginal="2019-06-01T12:30:15+02:00" exif:GPSLatitude="50,5.25N" '
    'exif:GPSLongitude="14,25,16.68E" tiff:Make="Canon" tiff:Model="Canon EOS 5D" aux:Lens="EF24-70mm f/2.8L" '
    'photoshop:City="Praha" photoshop:Country="Česko"',
)
BOMB = (
    "<!DOCTYPE a [" + "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 10)) + "]><movie>&a9;</movie>"
)


def items(folder: Path) -> dict[str, tuple[list[tuple[Origin, str]], FileFacts]]:
    with mmsearch.open(folder / "library", model="hashing", settings=Settings(workers=1)) as library:
        assert library.index(folder).failed == 0
        return {
            item.path.name: ([(text.origin, text.words) for text in item.texts], item.facts) for item in library.items()
        }
