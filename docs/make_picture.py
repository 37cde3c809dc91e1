"""Draw `docs/results.jpg`: what queries over `data/samples` find.

python docs/make_picture.py
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps

import mmsearch

ROOT = Path(__file__).parents[1]
SAMPLES = ROOT / "data" / "samples"
QUERIES: list[str | Path] = [
    "musicians at a concert",
    "un tigre dans la neige",
    SAMPLES / "photos" / "sheep.jpg",
    SAMPLES / "notes" / "moka_pot.md",
]
CELL, GAP, LABEL, SHOWN = 150, 8, 260, 4


def main() -> None:
    """Ask, and paste the answers side by side."""
    with tempfile.TemporaryDirectory() as folder, mmsearch.open(folder, model="mini") as library:
        library.index(SAMPLES, exclude=["CREDITS.md"])
        sheet = Image.new("RGB", (LABEL + SHOWN * (CELL + GAP), len(QUERIES) * (CELL + GAP) + GAP), "white")
        pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(17)
        for row, query in enumerate(QUERIES):
            top = GAP + row * (CELL + GAP)
            words = f"“{query}”" if isinstance(query, str) else query.relative_to(SAMPLES).as_posix()
            if isinstance(query, Path) and query.suffix == ".jpg":
                sheet.paste(ImageOps.fit(Image.open(query), (CELL, CELL)), ((LABEL - CELL) // 2, top))
                words = ""
            pen.multiline_text((LABEL // 2, top + CELL // 2), words, "black", font, anchor="mm", align="center")
            found = [hit for hit in library.query(query, k=SHOWN + 1, modalities={"image"}) if hit.path != query]
            for column, hit in enumerate(found[:SHOWN]):
                picture = ImageOps.fit(Image.open(hit.path).convert("RGB"), (CELL, CELL))
                sheet.paste(picture, (LABEL + column * (CELL + GAP), top))
    sheet.save(ROOT / "docs" / "results.jpg", quality=82, optimize=True)


if __name__ == "__main__":
    main()
