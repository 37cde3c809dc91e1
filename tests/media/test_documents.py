"""Documents as passages with their page or heading, and what they say of themselves; hostile ones cost little."""

from __future__ import annotations

import json
import os
import time
import zipfile
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.document_maker import docx, epub, open_document, pdf, pptx, scanned_pdf, word_paragraph, zipped
from support.media_maker import BLUE, RED, plain, put

import mmsearch
from mmsearch import Settings, wire
from mmsearch.errors import MediaError
from mmsearch.media import Decoded, DecodeOptions, decode
from mmsearch.media.documents.html import read_html
from mmsearch.media.kinds import resolve
from mmsearch.records import Origin
from mmsearch.settings import Limits
from mmsearch.types import Modality, View


def options(**limits: int) -> DecodeOptions:
    return DecodeOptions(Limits(**limits), 64, 12, lambda text: len(text.split()), 16_000)


def read(folder: Path, name: str, content: bytes | str, **limits: int) -> Decoded:
    return decode(os.fsencode(put(folder, name, content)), (), options(**limits))


def places(decoded: Decoded) -> list[tuple[str, int | None, str | None]]:
    return [(segment.texts[0].words, segment.page, segment.heading) for segment in decoded.segments if segment.texts]


def words(decoded: Decoded) -> list[str]:
    return [segment.texts[0].words for segment in decoded.segments if segment.texts]


PAGES = [["The goose walks.", "It eats exam-", "ples of grass."], ["Grandmother feeds it."], []]


def test_a_pdf_gives_its_pages_with_their_bookmark_and_picture(tmp_path: Path) -> None:
    info = "/Title (On geese) /Author (Anna) /Keywords (goose, farm) /CreationDate (D:20190601123015+02'00')"
    decoded = read(tmp_path, "a.pdf", pdf(PAGES, [("Outside", 0), ("Inside", 1)], info))
    assert places(decoded)[:2] == [
        ("The goose walks. It eats examples of grass.", 1, "Outside"),
        ("Grandmother feeds it.", 2, "Inside"),
    ]
    assert decoded.modality is Modality.TEXT
    assert [set(segment.views) for segment in decoded.segments] == [{View.TEXT, View.VISUAL}] * 2 + [{View.VISUAL}]
    (picture,) = decoded.segments[0].views[View.VISUAL]
    assert isinstance(picture, Image.Image)
    assert (min(picture.size), picture.mode) == (64, "RGB")
    about = {(text.origin, text.words) for text in decoded.segments[0].texts[1:]}
    assert about == {(Origin.CAPTION, "On geese"), (Origin.TAGS, "goose, farm, Anna")}
    assert decoded.facts is not None
    assert decoded.facts.taken_at == datetime(2019, 6, 1, 12, 30, 15, tzinfo=timezone(timedelta(hours=2)))
    assert decoded.failures == ()


def test_a_scanned_page_is_seen(tmp_path: Path) -> None:
    decoded = read(tmp_path, "scan.pdf", scanned_pdf(plain(RED), plain(BLUE)))
    assert [segment.page for segment in decoded.segments] == [1, 2]
    for segment, colour in zip(decoded.segments, (RED, BLUE), strict=True):
        assert set(segment.views) == {View.VISUAL}
        (picture,) = segment.views[View.VISUAL]
        assert np.abs(np.asarray(picture, int).mean((0, 1)) - colour).max() < 8


def test_a_pdf_is_known_by_its_content(tmp_path: Path) -> None:
    raw = pdf(PAGES)
    assert resolve(b"photo.jpg", raw[:32]) is Modality.TEXT
    assert words(read(tmp_path, "download", raw))[1] == "Grandmother feeds it."


def test_a_docx_has_headings_in_any_language_pages_notes_and_no_deleted_words(tmp_path: Path) -> None:
    page = "<w:lastRenderedPageBreak/>"
    body = (
        word_paragraph("The goose", "Nadpis1")
        + word_paragraph("It walks.")
        + "<w:p><w:del><w:r><w:delText>gone</w:delText><w:t>gone</w:t></w:r></w:del>"
        "<w:r><w:t>It</w:t><w:tab/><w:t>eats.</w:t></w:r></w:p>"
        + word_paragraph("The hen", "Nadpis1", page)
        + "<w:tbl><w:tr><w:tc><w:p><w:r><w:t>It sleeps.</w:t></w:r></w:p></w:tc></w:tr></w:tbl>"
    )
    note = '<w:footnotes xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main">'
    note += word_paragraph("A note below.") + "</w:footnotes>"
    decoded = read(tmp_path, "a.docx", docx(body, {"word/footnotes.xml": note}))
    assert places(decoded) == [
        ("The goose It walks.", 1, "The goose"),
        ("It eats.", 1, "The goose"),
        ("The hen It sleeps.", 2, "The hen"),
        ("A note below.", 2, "The hen"),
    ]
    assert decoded.facts is not None
    assert decoded.facts.taken_at == datetime(2019, 6, 1, 12, 30, 15, tzinfo=UTC)
    assert (decoded.facts.keywords, decoded.facts.people) == (("goose", "farm"), ("Anna Nováková",))


def test_slides_are_pages(tmp_path: Path) -> None:
    decoded = read(tmp_path, "a.pptx", pptx("The goose walks.", "It eats.", *["More."] * 9))
    assert places(decoded)[:2] == [("The goose walks.", 1, None), ("It eats.", 2, None)]
    assert [segment.page for segment in decoded.segments] == list(range(1, 12))


def test_an_odt_has_headings_pages_and_its_blanks(tmp_path: Path) -> None:
    body = (
        "<office:text><text:tracked-changes><text:p>gone</text:p></text:tracked-changes>"
        "<text:h>The <text:span>goose</text:span></text:h>"
        "<text:p>It<text:s text:c='3'/>walks<text:tab/>far.<text:line-break/>And back."
        "<office:annotation><text:p>a remark</text:p></office:annotation></text:p><text:soft-page-break/>"
        "<text:list><text:list-item><text:p>It eats.</text:p></text:list-item></text:list></office:text>"
    )
    decoded = read(tmp_path, "a.odt", open_document(body))
    assert places(decoded) == [("The goose It walks far. And back.", 1, "The goose"), ("It eats.", 2, "The goose")]
    assert decoded.facts is not None
    assert decoded.facts.keywords == ("goose",)


def test_pages_of_an_odp_are_pages(tmp_path: Path) -> None:
    shown = "".join(f"<draw:page><draw:frame><text:p>Slide {n}.</text:p></draw:frame></draw:page>" for n in (1, 2))
    decoded = read(tmp_path, "a.odp", open_document(f"<office:presentation>{shown}</office:presentation>"))
    assert places(decoded) == [("Slide 1.", 1, None), ("Slide 2.", 2, None)]


def test_a_book_is_read_chapter_by_chapter(tmp_path: Path) -> None:
    decoded = read(tmp_path, "a.epub", epub("<h1>One</h1><p>The goose walks.</p>", "<h1>Two</h1><p>It eats.</p>"))
    assert places(decoded) == [("One The goose walks.", None, "One"), ("Two It eats.", None, "Two")]
    assert [text.words for text in decoded.segments[0].texts] == ["One The goose walks.", "On geese", "Anna Nováková"]


HTML = """<!DOCTYPE html><html><head><title>On &amp; about geese</title><meta charset="utf-8">
<meta name="keywords" content="goose, farm"><style>p { color: red }</style><script>alert("no")</script></head>
<body><!-- a <b>remark</b> --><h1>The <i>goose</i></h1><p>It walks<br>into&nbsp;the <b>kit</b>chen &mdash; slowly.</p>
<noscript>no</noscript><svg><text>no</text></svg><h2>Food</h2><ul><li>Grass.<li>Bread.</ul>
<img src="a.jpg" alt="a goose that eats."><table><tr><td>Hen</td><td>barn</td></tr></table></body></html>"""


def test_of_html_what_is_shown_is_read_below_its_headings(tmp_path: Path) -> None:
    decoded = read(tmp_path, "a.html", HTML)
    assert places(decoded) == [
        ("The goose It walks into the kitchen — slowly.", None, "The goose"),
        ("Food Grass.", None, "Food"),
        ("Bread.", None, "Food"),
        ("a goose that eats.", None, "Food"),
        ("Hen barn", None, "Food"),
    ]
    assert [text.words for text in decoded.segments[0].texts[1:]] == ["On & about geese", "goose, farm"]


@pytest.mark.parametrize(
    ("encoding", "said"), [("windows-1250", "windows-1250"), ("utf-8", ""), ("utf-8", "windows-1250x"), ("utf-16", "")]
)
def test_html_is_decoded_as_it_says_and_else_as_it_is(encoding: str, said: str) -> None:
    raw = f'<meta charset="{said}"><p>Žluťoučký kůň pěl ďábelské ódy.</p>'.encode(encoding)
    assert read_html(raw).sections[0].words == "Žluťoučký kůň pěl ďábelské ódy."


@pytest.mark.parametrize(
    "html",
    ["<p>a<p>b", "<div>a<div>b</div></div>", "a<br/><br/>b", "<head><title>t</title><body>b", "<script>x</script>a b"],
)
def test_html_that_isnt_closed_is_read_as_browsers_do(html: str) -> None:
    assert "b" in " ".join(section.words for section in read_html(html.encode()).sections)


ORG = """#+TITLE: On geese
#+FILETAGS: :farm:
* TODO [#A] The goose   :bird:
:PROPERTIES:
:ID: 7
:END:
It walks [[https://example.org][into the kitchen]].
#+BEGIN_QUOTE
slowly
#+END_QUOTE

** Food
Grass.
# a remark
"""
RST = """=========
The goose
=========

It walks into :ref:`the kitchen <kitchen>`, **slowly**.

.. _label:
.. note:: A remark.
   :class: x

Food
----

Grass and `bread <https://example.org>`_.
"""


def test_org_and_rst_give_sections_without_marks(tmp_path: Path) -> None:
    org = read(tmp_path, "a.org", ORG)
    assert places(org) == [
        ("The goose It walks into the kitchen. slowly", None, "The goose"),
        ("Food Grass.", None, "Food"),
    ]
    assert [text.words for text in org.segments[0].texts[1:]] == ["On geese", "bird, farm"]
    assert places(read(tmp_path, "a.rst", RST)) == [
        ("The goose It walks into the kitchen, slowly.", None, "The goose"),
        ("A remark.", None, "The goose"),
        ("Food Grass and bread.", None, "Food"),
    ]


@pytest.mark.parametrize("sign", [",", ";", "\t", "|"])
def test_cells_of_a_table_come_with_the_name_of_their_column(tmp_path: Path, sign: str) -> None:
    rows = [["animal", "place"], ["goose", "the kitchen"], ["hen", ""], ['"a b"', "barn"]]
    decoded = read(tmp_path, "a.csv", "\n".join(sign.join(row) for row in rows))
    assert words(decoded) == ["animal: goose, place: the kitchen animal: hen animal: a b, place: barn"]


def test_a_table_without_names_is_read_too(tmp_path: Path) -> None:
    assert words(read(tmp_path, "a.tsv", "goose\t7\nhen\t8\n")) == ["goose, 7 hen, 8"]


MAIL = (
    "From: =?utf-8?q?Anna_Nov=C3=A1kov=C3=A1?= <anna@example.org>\nTo: Jan <jan@example.org>\n"
    "Date: Sat, 01 Jun 2019 12:30:15 +0200\nSubject: =?iso-8859-2?q?Hus=ED_farma?=\nMIME-Version: 1.0\n"
    'Content-Type: multipart/mixed; boundary="x"\n\n--x\nContent-Type: multipart/alternative; boundary="y"\n\n'
    "--y\nContent-Type: text/plain; charset=iso-8859-2\nContent-Transfer-Encoding: quoted-printable\n\n"
    "Husa jde p=F8es dv=F9r.\n--y\nContent-Type: text/html; charset=utf-8\n\n<p>Husa jde.</p>\n--y--\n"
    '--x\nContent-Type: image/jpeg\nContent-Disposition: attachment; filename="goose.jpg"\n\nAAAA\n--x--\n'
)


def test_a_message_has_a_subject_people_a_date_and_the_plainer_of_two_texts(tmp_path: Path) -> None:
    decoded = read(tmp_path, "a.eml", MAIL)
    said = " ".join(words(decoded))
    assert said.startswith("Husí farma")
    assert "Husa jde přes dvůr." in said
    assert "goose.jpg" in said
    assert said.count("Husa") == 1
    assert {segment.heading for segment in decoded.segments} == {"Husí farma"}
    assert decoded.facts is not None
    assert decoded.facts.people == ("Anna Nováková", "Jan")
    assert decoded.facts.taken_at == datetime(2019, 6, 1, 12, 30, 15, tzinfo=timezone(timedelta(hours=2)))


def test_messages_of_a_mailbox_are_pages(tmp_path: Path) -> None:
    two = "Subject: Hen\n\nIt sleeps.\n>From the barn\n"
    box = f"From a@b Sat Jun  1 12:30:15 2019\n{MAIL}\n\nFrom c@d Sat Jun  1 12:31:15 2019\n{two}"
    decoded = read(tmp_path, "a.mbox", box)
    assert {(segment.page, segment.heading) for segment in decoded.segments} == {(1, "Husí farma"), (2, "Hen")}
    assert words(decoded)[-1].endswith("From the barn")


def test_of_a_text_beyond_the_limit_the_beginning_is_kept_and_that_is_said(tmp_path: Path) -> None:
    text = "\n\n".join(f"Goose number {n} walks into the kitchen." for n in range(100))
    for name in ("a.txt", "a.html"):
        decoded = read(tmp_path, name, text, passages=10)
        assert len(decoded.segments) == 10
        assert [failure.reason for failure in decoded.failures] == ["only its first 10 passages are indexed; split it"]
        assert read(tmp_path, name, text).failures == ()
        cut = read(tmp_path, name, text * 300, text_bytes=2**20, passages=10**6)
        assert [failure.reason for failure in cut.failures] == ["only its first 1 MB are read; split it"]
        assert len(cut.segments) > 1000 or name == "a.html"


def test_a_document_answers_with_page_and_heading(tmp_path: Path) -> None:
    folder = tmp_path / "papers"
    put(folder, "a.pdf", pdf(PAGES, [("Outside", 0), ("Inside", 1)]))
    put(folder, "b.html", HTML)
    put(folder, "scan.pdf", scanned_pdf(plain(RED)))
    put(folder, "locked.docx", b"PK\x03\x04 broken")
    with mmsearch.open(tmp_path / "library", model="hashing", settings=Settings(workers=1)) as library:
        report = library.index(folder)
        assert (report.added, [failure.path.name for failure in report.failures]) == (3, ["locked.docx"])
        (hit,) = library.query("Grandmother feeds it.", k=1)
        assert (hit.path.name, hit.page, hit.heading) == ("a.pdf", 2, "Inside")
        found = json.loads(json.dumps(wire.from_hit(hit)))
        assert (found["page"], found["heading"]) == (2, "Inside")
        (seen,) = library.query(plain(RED), k=1)
        assert (seen.path.name, seen.view, seen.page) == ("scan.pdf", View.VISUAL, 1)
        (asked,) = library.query(folder / "a.pdf", k=1)
        assert (asked.path.name, asked.view) == ("a.pdf", View.TEXT)


BOMB = zipped({"word/document.xml": b"<w>" + b" " * 100_000_000 + b"</w>"})
DEEP = "<w:p>" * 50_000
LOOP = pdf(PAGES).replace(b"/Kids [", b"/Kids [2 0 R ")
XREF = pdf(PAGES).replace(b"trailer <<", b"trailer << /Prev 9 ")
NESTED_MAIL = "".join(f'Content-Type: multipart/mixed; boundary="b{n}"\n\n--b{n}\n' for n in range(2_000))
HOSTILE: dict[str, bytes | str] = {
    "bomb.docx": BOMB,
    "deep.docx": docx(DEEP),
    "entities.docx": zipped({"word/document.xml": '<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>'}),
    "empty.docx": zipped({}),
    "encrypted.odt": open_document("<text:p>x</text:p>")[:200],
    "many.epub": zipped({f"{n}": b"" for n in range(60_000)}, zipfile.ZIP_STORED),
    "loop.pdf": LOOP,
    "xref.pdf": XREF,
    "cut.pdf": pdf(PAGES)[:300],
    "mark.pdf": b"%PDF-1.7\n",
    "boxes.pdf": pdf([["a"]]).replace(b"[0 0 612 792]", b"[0 0 9e9 1e-9]"),
    "comments.html": "<!--" * 200_000,
    "tags.html": "<a " * 200_000,
    "open.html": "<div>" * 200_000,
    "unseen.html": "<svg>" * 100_000 + "</svg>" * 100_000,
    "quotes.html": '<a b="' * 100_000,
    "declared.html": "<![CDATA[" * 100_000,
    "asked.html": "<?" * 200_000,
    "ands.html": "&" * 500_000,
    "nested.eml": NESTED_MAIL,
    "headers.eml": "Subject: " + "=?utf-8?q?a?= " * 100_000 + "\n\nx",
    "addresses.eml": "From: " + "(" * 100_000 + "\n\nx",
    "boundary.eml": 'Content-Type: multipart/mixed; boundary="-"\n\n' + "---\n" * 100_000,
    "from.mbox": "From a\n\n" * 50_000,
    "quotes.csv": '"' * 500_000,
    "wide.csv": "," * 500_000,
    "stars.org": "* " * 200_000,
    "links.org": "[[" * 200_000,
    "roles.rst": "`" * 200_000,
    "lines.rst": "=\n" * 100_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_document_is_done_with_quickly(name: str, tmp_path: Path) -> None:
    began = time.process_time()
    try:
        decoded = read(tmp_path, name, HOSTILE[name])
    except MediaError as error:
        assert "\n" not in str(error)
    else:
        assert len(decoded.segments) <= Limits().passages
    assert time.process_time() - began < 12


def test_a_locked_pdf_says_so(tmp_path: Path) -> None:
    keys = b"/O (%s) /U (%s) /P -4" % (b"o" * 32, b"u" * 32)
    lock = b"trailer << /Encrypt << /Filter /Standard /V 1 /R 2 " + keys + b" >> /ID [(a) (a)]"
    locked = pdf(PAGES).replace(b"trailer <<", lock)
    with pytest.raises(MediaError, match="password"):
        read(tmp_path, "a.pdf", locked)
