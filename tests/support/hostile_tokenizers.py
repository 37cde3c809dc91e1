"""Tokenizers that nobody should be harmed by: of no kind, without words, or that make a long text endless."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, normalizers, processors

from support.small_space import Make, tokenizer


def _tokenizer(**changes: Any) -> Make:  # noqa: ANN401
    def spoil(folder: Path) -> None:
        fields = json.loads((folder / "tokenizer.json").read_bytes())
        (folder / "tokenizer.json").write_text(json.dumps({**fields, **changes}))

    return spoil


def _saved(change: Callable[[Tokenizer], object]) -> Make:
    def spoil(folder: Path) -> None:
        made = tokenizer()
        change(made)
        made.save(str(folder / "tokenizer.json"))

    return spoil


def _growing(made: Tokenizer) -> None:
    made.normalizer = normalizers.Sequence([normalizers.Replace("a", "aa") for _ in range(60)])


def _special(made: Tokenizer) -> None:
    made.add_special_tokens(["<s>"])
    made.post_processor = processors.TemplateProcessing(single="<s> " * 20 + "$A", special_tokens=[("<s>", 3)])


def _text(content: bytes) -> Make:
    return lambda folder: (folder / "tokenizer.json").write_bytes(content)


def _word_level(vocabulary: Any) -> dict[str, Any]:  # noqa: ANN401
    return {"type": "WordLevel", "vocab": vocabulary, "unk_token": "[UNK]"}


TOKENIZERS: dict[str, Make] = {
    "tokenizer: none": lambda folder: (folder / "tokenizer.json").unlink(),
    "tokenizer: nothing": _text(b""),
    "tokenizer: an empty object": _text(b"{}"),
    "tokenizer: a list": _text(b"[1]"),
    "tokenizer: no text": _text(b"\xff\xfe\x00\x01"),
    "tokenizer: nested deeply": _text(b"[" * 1_000_000),
    "tokenizer: larger than any": lambda folder: os.truncate(folder / "tokenizer.json", 2**40),
    "tokenizer: no such model": _tokenizer(model={"type": "Nothing"}),
    "tokenizer: no such normalizer": _tokenizer(normalizer={"type": "Nothing"}),
    "tokenizer: a broken pattern": _tokenizer(
        pre_tokenizer={"type": "Split", "pattern": {"Regex": "(((["}, "behavior": "Removed", "invert": False}
    ),
    "tokenizer: words without numbers": _tokenizer(model=_word_level({"[UNK]": "x"})),
    "tokenizer: numbers below 0": _tokenizer(model=_word_level({"[UNK]": -5})),
    "tokenizer: numbers beyond any": _tokenizer(model=_word_level({"[UNK]": 2**40})),
    "tokenizer: no word for the unknown": _tokenizer(model=_word_level({"red": 0})),
    "tokenizer: pairs of words that aren't there": _tokenizer(
        model={"type": "BPE", "vocab": {"a": 0}, "merges": ["a b", "x y"]}
    ),
    "tokenizer: unigrams without scores": _tokenizer(model={"type": "Unigram", "vocab": [["a"]], "unk_id": 7}),
    "tokenizer: an unknown unigram beyond the words": _tokenizer(
        model={"type": "Unigram", "vocab": [["a", 0.0]], "unk_id": 7}
    ),
    "tokenizer: it doubles a letter sixty times": _saved(_growing),
    "tokenizer: more special words than fit": _saved(_special),
    "tokenizer: a broken character map": _tokenizer(normalizer={"type": "Precompiled", "precompiled_charsmap": "AAAA"}),
    "tokenizer: an odd template": _tokenizer(
        post_processor={
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "x", "type_id": 0}}],
            "pair": [],
            "special_tokens": {},
        }
    ),
}
