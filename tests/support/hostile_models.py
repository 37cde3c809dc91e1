"""Model folders that nobody should be harmed by: specs, tokenizers, heads, ONNX files and names of odd kinds.

`hostile_models()` yields a name and a maker for each; a maker writes a small model into an empty folder and spoils it.
Whatever takes such a folder has to answer with one line.
"""

from __future__ import annotations

from collections.abc import Iterator

from support.hostile_files import FILES
from support.hostile_heads import HEADS
from support.hostile_specs import SPECS
from support.hostile_tokenizers import TOKENIZERS
from support.hostile_towers import TOWERS
from support.small_space import Make, make_heads, make_space

SLOW = {"tower: it computes for minutes"}
"""What takes seconds until a limit ends it."""


def hostile_models() -> Iterator[tuple[str, Make]]:
    """Yield every hostile model by name, with what makes it in an empty folder."""
    for kinds, base in ((SPECS | TOWERS | TOKENIZERS | FILES, make_space), (HEADS, make_heads)):
        for name, spoil in kinds.items():
            yield name, lambda folder, base=base, spoil=spoil: (base(folder), spoil(folder))  # type: ignore[misc]
