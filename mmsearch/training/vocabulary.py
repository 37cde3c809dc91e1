"""A WordPiece vocabulary for texts that no published tokenizer fits.

The trainers of the tokenizers library break ties by the order of a hash map, so that two runs differ; a recipe has to
give the same space each time. WordPiece takes any list of pieces: here the frequent words whole, and letters and
frequent endings for the others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path

from mmsearch.files import write_whole

_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
_WHOLE = 0.8
"""The share of the vocabulary that whole words may take."""
_ENDINGS = range(2, 6)
"""How long endings are, in letters."""


def make_tokenizer(texts: Sequence[str], size: int, file: Path) -> None:
    """Write the `tokenizer.json` of a WordPiece tokenizer, in lower case, with at most `size` pieces fitted to texts.

    More where the letters alone are more.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    splitter = pre_tokenizers.BertPreTokenizer()
    counts = Counter(word for text in texts for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text)))
    vocabulary = {piece: number for number, piece in enumerate(_pieces(counts, size))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, splitter
    ends = [(name, vocabulary[name]) for name in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    write_whole(file, tokenizer.to_str().encode())


def _pieces(counts: Counter[str], size: int) -> Iterable[str]:
    """Return the pieces of a vocabulary, most useful first, each once."""
    letters = sorted({letter for word in counts for letter in word})
    words = _by_count(counts)[: int(size * _WHOLE)]
    known = set(words)
    endings: Counter[str] = Counter()
    for word, count in counts.items():
        for length in _ENDINGS if word not in known else ():
            if length < len(word):
                endings[f"##{word[-length:]}"] += count
    found = [*_SPECIAL, *letters, *(f"##{letter}" for letter in letters)]
    pieces = dict.fromkeys([*found, *words, *_by_count(endings)])
    return islice(pieces, max(size, len(found)))


def _by_count(counts: Counter[str]) -> list[str]:
    """Return what was counted, the most frequent first, and in alphabetical order where that is the same."""
    return sorted(counts, key=lambda piece: (-counts[piece], piece))
