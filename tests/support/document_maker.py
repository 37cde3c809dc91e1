"""Makes small documents whose words, headings and pages are known: PDF, DOCX, PPTX, ODT, ODP, EPUB."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence

from PIL import Image

_WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
_OFFICE = (
    'xmlns:office="urn:oasis:names:tc:opendocument:xmlns:office:1.0" '
    'xmlns:text="urn:oasis:names:tc:opendocument:xmlns:text:1.0" '
    'xmlns:draw="urn:oasis:names:tc:opendocument:xmlns:drawing:1.0" '
    'xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:meta="urn:oasis:names:tc:opendocument:xmlns:meta:1.0"'
)
CORE = (
    '<cp:coreProperties xmlns:cp="http://schemas.openxmlformats.org/package/2006/metadata/core-properties" '
    'xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:dcterms="http://purl.org/dc/terms/">'
    "<dc:title>On geese</dc:title><dc:creator>Anna Nováková</dc:creator><cp:keywords>goose, farm</cp:keywords>"
    "<dcterms:created>2019-06-01T12:30:15Z</dcterms:created></cp:coreProperties>"
)


def zipped(members: Mapping[str, str | bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Return a zip file."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def docx(body: str, more: Mapping[str, str] | None = None) -> bytes:
    """Return a DOCX of this XML, with further members."""
    styles = (
        f'<w:styles xmlns:w="{_WORD}">'
        '<w:style w:type="paragraph" w:styleId="Nadpis1"><w:name w:val="heading 1"/></w:style>'
        '<w:style w:type="paragraph" w:styleId="Normln"><w:name w:val="Normal"/></w:style></w:styles>'
    )
    document = f'<w:document xmlns:w="{_WORD}"><w:body>{body}</w:body></w:document>'
    members = {"word/document.xml": document, "word/styles.xml": styles, "docProps/core.xml": CORE}
    return zipped(members | dict(more or {}))


def word_paragraph(words: str, style: str = "Normln", before: str = "") -> str:
    """Return a paragraph of a DOCX."""
    return f'<w:p><w:pPr><w:pStyle w:val="{style}"/></w:pPr><w:r>{before}<w:t>{words}</w:t></w:r></w:p>'


def pptx(*slides: str) -> bytes:
    """Return a PPTX with a paragraph a slide."""
    space = "http://schemas.openxmlformats.org/drawingml/2006/main"
    shown = [f"<a:p><a:r><a:t>{words}</a:t></a:r></a:p>" for words in slides]
    files = {
        f"ppt/slides/slide{n}.xml": f'<p:sld xmlns:p="p" xmlns:a="{space}">{body}</p:sld>'
        for n, body in enumerate(shown, 1)
    }
    return zipped(dict(reversed(files.items())))


def open_document(body: str) -> bytes:
    """Return an ODT or ODP of this XML."""
    about = (
        f"<office:document-meta {_OFFICE}><office:meta><dc:title>On geese</dc:title><meta:keyword>goose</meta:keyword>"
        "<meta:creation-date>2019-06-01T12:30:15</meta:creation-date></office:meta></office:document-meta>"
    )
    content = f"<office:document-content {_OFFICE}><office:body>{body}</office:body></office:document-content>"
    return zipped({"content.xml": content, "meta.xml": about})


def epub(*chapters: str) -> bytes:
    """Return a book with these bodies of HTML as chapters, which are stored in another order."""
    items = "".join(f'<item id="c{n}" href="text/c%20{n}.xhtml"/>' for n in range(len(chapters)))
    spine = "".join(f'<itemref idref="c{n}"/>' for n in range(len(chapters)))
    package = (
        '<package xmlns="http://www.idpf.org/2007/opf" xmlns:dc="http://purl.org/dc/elements/1.1/"><metadata>'
        f"<dc:title>On geese</dc:title><dc:creator>Anna Nováková</dc:creator></metadata><manifest>{items}</manifest>"
        f"<spine>{spine}</spine></package>"
    )
    container = '<container><rootfiles><rootfile full-path="OPS/book.opf"/></rootfiles></container>'
    members = {f"OPS/text/c {n}.xhtml": f"<html><body>{body}</body></html>" for n, body in enumerate(chapters)}
    return zipped(dict(reversed(members.items())) | {"META-INF/container.xml": container, "OPS/book.opf": package})


def pdf(pages: Sequence[Sequence[str]], bookmarks: Sequence[tuple[str, int]] = (), info: str = "") -> bytes:
    """Return a PDF with these lines on each page, and bookmarks to pages counted from 0."""
    objects: list[bytes] = []

    def add(body: bytes | str) -> int:
        objects.append(body if isinstance(body, bytes) else body.encode("latin-1"))
        return len(objects)

    font, tree, outline = add("<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"), add(""), add("")
    kids: list[int] = []
    for lines in pages:
        shown = " ".join(f"({line}) Tj T*" for line in lines)
        stream = f"BT /F1 12 Tf 14 TL 50 700 Td {shown} ET".encode("latin-1")
        content = add(b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream))
        kids.append(
            add(
                f"<< /Type /Page /Parent {tree} 0 R /MediaBox [0 0 612 792] /Contents {content} 0 R "
                f"/Resources << /Font << /F1 {font} 0 R >> >> >>"
            )
        )
    objects[tree - 1] = f"<< /Type /Pages /Kids [{' '.join(f'{n} 0 R' for n in kids)}] /Count {len(kids)} >>".encode()
    marks = [len(objects) + 1 + n for n in range(len(bookmarks))]
    for n, (title, page) in enumerate(bookmarks):
        next_one = f"/Next {marks[n + 1]} 0 R" if n + 1 < len(marks) else ""
        add(f"<< /Title ({title}) /Parent {outline} 0 R {next_one} /Dest [{kids[page]} 0 R /Fit] >>")
    ends = f"/First {marks[0]} 0 R /Last {marks[-1]} 0 R" if marks else ""
    objects[outline - 1] = f"<< /Type /Outlines {ends} /Count {len(marks)} >>".encode()
    about = add(f"<< {info} >>")
    root = add(f"<< /Type /Catalog /Pages {tree} 0 R /Outlines {outline} 0 R >>")
    file, offsets = io.BytesIO(), list[int]()
    file.write(b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n")
    for number, body in enumerate(objects, 1):
        offsets.append(file.tell())
        file.write(b"%d 0 obj\n%s\nendobj\n" % (number, body))
    at = file.tell()
    file.write(b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1))
    file.write(b"".join(b"%010d 00000 n \n" % offset for offset in offsets))
    size = len(objects) + 1
    file.write(b"trailer << /Size %d /Root %d 0 R /Info %d 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (size, root, about, at))
    return file.getvalue()


def scanned_pdf(*pages: Image.Image) -> bytes:
    """Return a PDF whose pages are pictures."""
    file = io.BytesIO()
    pages[0].save(file, "PDF", save_all=True, append_images=pages[1:])
    return file.getvalue()
