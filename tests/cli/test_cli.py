"""The command line as the contract has it: every call is a process of its own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Run
from PIL import Image, ImageDraw

HIT_KEYS = ["rank", "score", "confidence", "path", "modality", "view", "start_s", "end_s", "text", "space"]


def paint(file: Path, colour: str, spot: str = "white") -> Path:
    picture = Image.new("RGB", (64, 48), colour)
    ImageDraw.Draw(picture).rectangle((4, 4, 12, 12), fill=spot)
    file.parent.mkdir(parents=True, exist_ok=True)
    picture.save(file)
    return file


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("media")
    for colour in ("red", "green", "blue", "yellow"):
        paint(folder / f"{colour}_one.png", colour)
    (folder / "note.txt").write_text("The red door.\n\nA purple curtain.")
    (folder / "empty.jpg").write_bytes(b"")
    return folder


@pytest.fixture(scope="module")
def library(media: Path, run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("libraries") / "library"
    done = run("index", media, "--model", "hashing", "--json", library=folder)
    assert done.returncode == 0, done.stderr
    return folder


def lines(done: subprocess.CompletedProcess[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in done.stdout.splitlines()]


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def test_index_reports_one_json_object_and_a_second_run_finds_nothing_to_do(
    media: Path, run: Run, tmp_path: Path
) -> None:
    first = run("index", media, "--model", "hashing", "--json", library=tmp_path / "l")
    (report,) = lines(first)
    assert list(report) == ["added", "updated", "reused", "removed", "failed", "seconds", "failures"]
    assert (report["added"], report["failed"]) == (5, 1)
    assert report["failures"] == [
        {"path": str(media / "empty.jpg"), "stage": "decode", "reason": "the file is empty"},
    ]
    (again,) = lines(run("index", media, "--json", library=tmp_path / "l"))
    assert [again[key] for key in ("added", "updated", "reused", "removed", "failed")] == [0, 0, 0, 0, 0]


def test_a_run_that_ends_while_workers_start_is_silent(media: Path, run: Run, tmp_path: Path) -> None:
    done = run("index", media / "note.txt", "--model", "hashing", "--workers", "10", library=tmp_path / "l")
    assert (done.returncode, done.stderr) == (0, "")


def test_query_prints_one_json_object_a_hit_with_the_keys_of_the_contract(library: Path, media: Path, run: Run) -> None:
    done = run("query", "red", "-k", "3", "--json", library=library)
    assert done.returncode == 0
    hits = lines(done)
    assert [list(hit) for hit in hits] == [[*HIT_KEYS, "id"]] * 3
    assert [hit["rank"] for hit in hits] == [1, 2, 3]
    scores = [hit["score"] for hit in hits]
    assert scores == sorted(scores, key=lambda s: -float(str(s)))
    assert hits[0]["path"] == str(media / "red_one.png")
    assert {key: hits[0][key] for key in HIT_KEYS[4:]} == {
        "modality": "image",
        "view": "visual",
        "start_s": None,
        "end_s": None,
        "text": None,
        "space": "hashing",
    }
    assert hits[0]["confidence"] is None


def test_in_filters_the_modality_and_repeats_are_or(library: Path, run: Run) -> None:
    only_text = lines(run("query", "red", "--in", "text", "--json", library=library))
    assert [hit["text"] for hit in only_text] == ["The red door."]
    both = lines(run("query", "red", "--in", "text", "--in", "image", "--json", library=library))
    assert {hit["modality"] for hit in both} == {"text", "image"}
    nothing = run("query", "red", "--in", "video", library=library)
    assert (nothing.returncode, nothing.stdout) == (1, "")


def test_not_weights_text_and_like_build_one_query(library: Path, media: Path, run: Run) -> None:
    images = ("--in", "image", "--json")
    without = lines(run("query", "red", "green", "--not", "red", *images, library=library))
    assert without[0]["path"] == str(media / "green_one.png")
    heavy = lines(run("query", "red", "5:blue", *images, library=library))
    assert heavy[0]["path"] == str(media / "blue_one.png")
    verbatim = lines(run("query", "--text", "5:blue yellow", *images, library=library))
    assert {hit["path"] for hit in verbatim[:2]} == {str(media / "blue_one.png"), str(media / "yellow_one.png")}
    shutil.copy(media / "green_one.png", library.parent / "unnamed")
    like = lines(run("query", "--like", library.parent / "unnamed", *images, library=library))
    assert like[0]["path"] == str(media / "green_one.png")


def test_a_term_that_exists_is_a_file_and_the_queried_file_comes_first(library: Path, media: Path, run: Run) -> None:
    by_name = lines(run("query", "blue_one.png", "--json", library=library, cwd=media))
    assert by_name[0]["path"] == str(media / "blue_one.png")
    assert "there is no such file" in one_line(run("query", "nothing_here.png", library=library, cwd=media))


def test_a_leading_minus_means_nothing_special(library: Path, media: Path, run: Run) -> None:
    done = run("query", "-red", "-k1", "--json", library=library)
    assert lines(done)[0]["path"] == str(media / "red_one.png")
    done = run("query", "-k", "1", "--json", "--", "--red", library=library)
    assert lines(done)[0]["path"] == str(media / "red_one.png")


def test_paths_are_printed_as_bytes_with_newlines_or_nul(run: Run, tmp_path: Path) -> None:
    odd = tmp_path / "media" / os.fsdecode(b"caf\xe9\nred.png")
    paint(odd, "red")
    assert run("index", odd.parent, "--model", "hashing", library=tmp_path / "l").returncode == 0
    command = [sys.executable, "-m", "mmsearch", "query", "red", "--library", str(tmp_path / "l")]
    assert subprocess.check_output([*command, "--paths", "-0"]) == os.fsencode(odd) + b"\0"
    assert subprocess.check_output([*command, "--paths"]) == os.fsencode(odd) + b"\n"
    (hit,) = [json.loads(line) for line in subprocess.check_output([*command, "--json"]).splitlines()]
    assert hit["path"] == str(odd)
    table = run("query", "red", library=tmp_path / "l", cwd=tmp_path)
    assert r"caf\udce9\nred.png" in table.stdout


def test_into_a_pipe_a_hit_is_one_line_of_fields_with_tabs(library: Path, media: Path, run: Run) -> None:
    done = run("query", "red", "--in", "text", library=library, cwd=media)
    (line,) = done.stdout.splitlines()
    rank, score, view, path, text = line.split("\t")
    assert (rank, view, path, text) == ("1", "text", "note.txt", "The red door.")
    assert float(score) > 0


def test_the_table_cannot_steer_the_terminal(run: Run, tmp_path: Path) -> None:
    paint(tmp_path / "media" / "\x1b]0;owned\x07red.png", "red")
    (tmp_path / "media" / "note.txt").write_text("red \x1b[31m [bold]markup[/bold]")
    run("index", tmp_path / "media", "--model", "hashing", library=tmp_path / "l")
    done = run("query", "red", library=tmp_path / "l")
    assert "\x1b" not in done.stdout
    assert "\x07" not in done.stdout
    assert "[bold]markup[/bold]" in done.stdout


def test_near_duplicates_are_hidden_unless_all_is_asked_for(run: Run, tmp_path: Path) -> None:
    picture = Image.open(paint(tmp_path / "media" / "one.png", "red"))
    picture.resize((128, 96), Image.Resampling.NEAREST).save(tmp_path / "media" / "again.png")
    run("index", tmp_path / "media", "--model", "hashing", library=tmp_path / "l")
    shown = run("query", "red", library=tmp_path / "l")
    assert ("again.png" in shown.stdout) != ("one.png" in shown.stdout)
    assert "1 near-duplicate hidden" in shown.stderr
    everything = run("query", "red", "--all", "--paths", library=tmp_path / "l")
    assert len(everything.stdout.splitlines()) == 2


@pytest.mark.parametrize("command", [[], ["index"], ["query"], ["eval"], ["status"], ["forget"], ["model", "list"]])
def test_every_command_has_help(command: list[str], run: Run) -> None:
    for flag in ("-h", "--help"):
        done = run(*command, flag)
        assert (done.returncode, done.stderr) == (0, "")
        assert "Usage: mmsearch" in done.stdout


def test_every_command_on_a_missing_library_is_one_line_and_exit_2(run: Run, tmp_path: Path) -> None:
    for arguments in (["query", "red"], ["eval", "x"], ["status"], ["forget", "x"]):
        assert "mmsearch index" in one_line(run(*arguments, library=tmp_path / "none"))
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["query"], "at least one term"),
        (["query", "--not", "red"], "at least one term"),
        (["query", "red", "-k", "0"], "-k"),
        (["query", "red", "-k", "many"], "-k"),
        (["query", "red", "--in", "smell"], "--in"),
        (["query", "red", "--jsno"], "--jsno"),
        (["query", "--like", "nothing"], "no such file"),
        (["eval"], "FILE"),
        (["index", "--exclude", "*.png"], "name the files or folders"),
        (["index", "/does/not/exist"], "doesn't exist"),
        (["index", ".", "--workers", "0"], "--workers"),
        (["index", ".", "--device", "abacus"], "--device"),
        (["frobnicate"], "frobnicate"),
        (["forget", "/does/not/exist"], "holds nothing"),
    ],
)
def test_a_usage_error_is_one_line_and_exit_2(arguments: list[str], said: str, library: Path, run: Run) -> None:
    assert said in one_line(run(*arguments, library=library))


def test_an_unknown_model_is_refused(run: Run, library: Path, media: Path, tmp_path: Path) -> None:
    for folder in (tmp_path / "l", library):
        assert "gigantic" in one_line(run("index", media, "--model", "gigantic", library=folder))
    assert not (tmp_path / "l").exists()


def test_cuda_is_refused_where_there_is_none(run: Run, media: Path, tmp_path: Path) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has CUDA")
    said = one_line(run("index", media, "--model", "mini", "--device", "cuda", library=tmp_path / "l"))
    assert "--device cpu" in said


def test_a_path_that_does_not_exist_changes_nothing(run: Run, media: Path, tmp_path: Path) -> None:
    one_line(run("index", media, tmp_path / "nope", library=tmp_path / "l"))
    assert not (tmp_path / "l").exists()


def test_status_and_forget(run: Run, media: Path, tmp_path: Path) -> None:
    folder = tmp_path / "l"
    run("index", media, "--model", "hashing", library=folder)
    (status,) = lines(run("status", "--json", library=folder))
    assert list(status) == ["library", "model", "media", "segments", "failures", "roots", "indexes", "bytes"]
    assert status["library"] == str(folder)
    assert status["model"] == "hashing"
    assert status["media"] == {"audio": 0, "image": 4, "text": 1, "video": 0}
    assert (status["segments"], status["failures"]) == (6, 1)
    indexes = status["indexes"]
    assert isinstance(indexes, list)
    assert sorted((i["space"], i["view"], i["count"], i["stale"]) for i in indexes) == [
        ("hashing", "text", 2, False),
        ("hashing", "visual", 4, False),
    ]
    assert "the file is empty" in run("status", library=folder).stdout
    assert run("forget", media / "red_one.png", media / "note.txt", library=folder).returncode == 0
    assert (media / "red_one.png").exists()
    (status,) = lines(run("status", "--json", library=folder))
    assert status["media"] == {"audio": 0, "image": 3, "text": 0, "video": 0}


def test_the_default_library_is_in_the_data_folder_and_the_variable_overrides_it(
    run: Run, media: Path, tmp_path: Path
) -> None:
    run("index", media / "red_one.png", "--model", "hashing", XDG_DATA_HOME=str(tmp_path / "data"))
    if sys.platform == "linux":
        assert (tmp_path / "data" / "mmsearch" / "default" / "catalog.sqlite").is_file()
    assert lines(run("query", "red", "--json", XDG_DATA_HOME=str(tmp_path / "data")))[0]["rank"] == 1


def test_a_second_index_while_one_writes_is_refused(run: Run, library: Path, media: Path) -> None:
    from filelock import FileLock

    with FileLock(library / "write.lock"):
        assert "another process is writing" in one_line(run("index", media, library=library))
        assert run("query", "red", library=library).returncode == 0


def test_a_broken_pipe_is_silent(library: Path) -> None:
    command = f"{sys.executable} -m mmsearch query red --json --library {library} | true"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("", "")


def test_a_defect_shows_its_traceback_only_when_asked(run: Run, tmp_path: Path) -> None:
    (tmp_path / "catalog.sqlite").write_bytes(b"this is no database, but it is long enough to be read as one" * 20)
    quiet = run("status", library=tmp_path)
    assert "not a database" in one_line(quiet)
    assert "Traceback" in run("status", library=tmp_path, MMSEARCH_DEBUG="1").stderr


def test_ctrl_c_commits_what_is_ready_and_the_next_run_goes_on(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "media"
    for number in range(600):
        paint(folder / f"{number:03d}.png", f"#{number * 7919 % 0xFFFFFF:06x}")
    library = tmp_path / "l"
    command = [sys.executable, "-m", "mmsearch", "index", str(folder), "--batch", "8", "--workers", "1"]
    process = subprocess.Popen(
        [*command, "--model", "hashing", "--library", str(library)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    wait_for_media(library)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the workers too
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "goes on from there" in stderr
    assert "Traceback" not in stderr
    (status,) = lines(run("status", "--json", library=library))
    media = status["media"]
    assert isinstance(media, dict)
    assert 0 < media["image"] < 600
    (report,) = lines(run("index", folder, "--json", library=library))
    assert report["added"] == 600 - media["image"]


def wait_for_media(library: Path) -> None:
    """Wait until the first batch is committed."""
    import sqlite3
    import time

    for _ in range(600):
        time.sleep(0.05)
        if (library / "catalog.sqlite").is_file():
            connection = sqlite3.connect(library / "catalog.sqlite", timeout=30)
            try:
                if connection.execute("SELECT count(*) FROM media").fetchone()[0]:
                    return
            except sqlite3.OperationalError:
                pass  # its tables aren't made yet
            finally:
                connection.close()
    raise AssertionError("nothing was committed in 30 s")


def test_model_list_names_what_each_embeds_and_its_licence(run: Run) -> None:
    done = run("model", "list")
    assert done.returncode == 0
    (mini,) = [line for line in done.stdout.splitlines() if line.startswith("mini")]
    for word in ("text, visual, audio", "256", "en de fr cs", "CC BY-NC 4.0"):
        assert word in mini
