"""Languages and roles of subtitles, as names of files and tracks give them."""

from __future__ import annotations

import re

_ISO_639 = (
    "aa ab ae af ak am an ar as av ay az ba be bg bi bm bn bo br bs ca ce ch co cr cs cu cv cy da de dv dz ee el en "
    "eo es et eu fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi ho hr ht hu hy hz ia id ie ig ii ik io is it iu iw "
    "ja ji jv ka kg ki kj kk kl km kn ko kr ks ku kv kw ky la lb lg li ln lo lt lu lv mg mh mi mk ml mn mr ms mt my "
    "na nb nd ne ng nl nn no nr nv ny oc oj om or os pa pi pl ps pt qu rm rn ro ru rw sa sc sd se sg si sk sl sm sn "
    "so sq sr ss st su sv sw ta te tg th ti tk tl tn to tr ts tt tw ty ug uk ur uz ve vi vo wa wo xh yi yo za zh zu "
    "eng deu ger fra fre ces cze spa ita por nld dut pol rus jpn zho chi kor swe dan nor nob nno fin isl ice hun ron "
    "rum bul ell gre tur ara heb hin ukr srp hrv slk slo slv est lav lit vie tha ind msa may fas per cat eus baq glg "
    "fil yue cmn "
)
_CODES = frozenset(_ISO_639.split())
"""ISO 639-1, and codes of three letters that are in use."""
_NAMES = {
    "english": "en", "german": "de", "deutsch": "de", "french": "fr", "francais": "fr", "français": "fr",
    "czech": "cs", "cesky": "cs", "čeština": "cs", "spanish": "es", "español": "es", "espanol": "es", "italian": "it",
    "italiano": "it", "portuguese": "pt", "português": "pt", "brazilian": "pt-BR", "dutch": "nl",
    "nederlands": "nl", "polish": "pl",
    "polski": "pl", "russian": "ru", "русский": "ru", "ukrainian": "uk", "українська": "uk", "japanese": "ja",
    "日本語": "ja", "chinese": "zh", "中文": "zh", "chs": "zh-Hans", "cht": "zh-Hant", "korean": "ko", "한국어": "ko",
    "swedish": "sv", "svenska": "sv", "danish": "da", "dansk": "da", "norwegian": "no", "norsk": "no", "finnish": "fi",
    "suomi": "fi", "hungarian": "hu", "magyar": "hu", "romanian": "ro", "greek": "el", "turkish": "tr", "türkçe": "tr",
    "arabic": "ar", "hebrew": "he", "hindi": "hi", "slovak": "sk", "slovenian": "sl", "croatian": "hr", "serbian": "sr",
    "bulgarian": "bg", "vietnamese": "vi", "thai": "th", "indonesian": "id",
}  # fmt: skip
_LATER = ("forced", "signs", "songs", "sdh", "cc", "hi", "hearing_impaired", "commentary")
"""Roles of subtitles that stand behind the plain ones, of which they say a part or the same."""
_PLAIN = "full default orig original auto asr ai sub subs foreign dubtitle"
_ROLES = frozenset((*_LATER, *_PLAIN.split()))
_TAG = re.compile(r"([A-Za-z]{2,3})((?:[-_][A-Za-z\d]{2,8})*)(?:-orig)?", re.ASCII)
_MOST_TAGS = 3


def language_of(tag: str) -> str:
    """Return the language that a part of a name gives, such as "en-US"; "" where it gives none."""
    if tag.lower() in _NAMES:
        return _NAMES[tag.lower()]
    found = _TAG.fullmatch(tag)
    if found is None or found[1].lower() not in _CODES:
        return ""
    rest = found[2].replace("_", "-")
    return found[1].lower() + rest.removesuffix("-orig")


def role_of(tag: str) -> str:
    """Return the role that a part of a name gives, such as "forced"; "" where it gives none."""
    return tag.lower() if tag.lower() in _ROLES else ""


def is_later(tags: list[str]) -> bool:
    """Return whether subtitles of a name with these parts stand behind the plain ones of the same language."""
    return any(role_of(tag) in _LATER for tag in tags)


def split(stem: str) -> list[tuple[str, list[str]]]:
    """Return what the parts at the end of a name may belong to: the rest of it, and the parts; the longest first.

    `clip.en.forced` is itself, or `clip.en` with a role, or `clip` with a language and a role.
    """
    found: list[tuple[str, list[str]]] = [(stem, [])]
    tags: list[str] = []
    for _ in range(_MOST_TAGS):
        stem, dot, tag = stem.rpartition(".")
        if not dot or not stem or not (language_of(tag) or role_of(tag)):
            break
        tags = [tag, *tags]
        found.append((stem, tags))
    return found
