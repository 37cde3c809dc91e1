"""What people expect of any command line: defaults in a file, completion, and a guess at what was meant."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from conftest import Run

from mmsearch.cli.app import app
from mmsearch.cli.config import defaults
from mmsearch.cli.suggestions import with_suggestion
from mmsearch.errors import UsageError


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "config.toml"
    monkeypatch.setenv("MMSEARCH_CONFIG", str(file))
    return file


@pytest.fixture(scope="module")
def library(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("notes")
    for name in ("red", "green", "blue"):
        (folder / f"{name}.txt").write_text(f"A {name} door.")
    assert run("index", folder, "--model", "hashing", library=folder / "library").returncode == 0
    return folder / "library"


def test_the_file_counts_less_than_a_variable_and_a_variable_less_than_an_option(
    library: Path, run: Run, tmp_path: Path
) -> None:
    home = tmp_path / "settings" / "mmsearch"
    home.mkdir(parents=True)
    (home / "config.toml").write_text(f'library = "{library}"\n[query]\nk = 1\nin = "text"\npaths = true\nall = true\n')
    settings = str(tmp_path / "settings")

    def hits(*options: str, k: str = "") -> int:
        done = run("query", "door", *options, XDG_CONFIG_HOME=settings, MMSEARCH_QUERY_K=k)
        assert done.returncode == 0, done.stderr
        return len(done.stdout.splitlines())

    assert hits() == 1
    assert hits(k="2") == 2
    assert hits("-k", "3", k="2") == 3
    assert run("query", "door", "--in", "image", XDG_CONFIG_HOME=settings).returncode == 1
    other = run("status", library=tmp_path / "other", XDG_CONFIG_HOME=settings)  # $MMSEARCH_LIBRARY
    assert str(tmp_path / "other") in other.stderr


def test_values_reach_the_parameters_of_the_commands_that_have_them(config: Path) -> None:
    config.write_text('library = "~/photos"\n[query]\nin = "image"\nrerank = false\n[index]\nexclude = ["*.tmp"]\n')
    found = defaults(app)
    assert found is not None
    assert found["query"] == {"library": str(Path.home() / "photos"), "modalities": ["image"], "rerank": False}
    assert found["index"] == {"library": str(Path.home() / "photos"), "exclude": ["*.tmp"]}
    assert found["train"] == found["model"]["pull"] == {}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('libary = "x"', "no command has the option 'libary'; did you mean 'library'?"),
        ("[qurey]\nk = 2", "there is no command qurey; did you mean 'query'?"),
        ("[query]\nreranck = true", "[query] has no option 'reranck'; did you mean 'rerank'?"),
        ("[model.pull]\nx = 1", "[model.pull] has no option 'x'"),
        ("query = 3", "query is a command, so write [query] and options below it"),
        ("x = [", "is no TOML"),
    ],
)
def test_a_mistake_in_the_file_is_one_line_that_names_it(config: Path, content: str, said: str) -> None:
    config.write_text(content)
    with pytest.raises(UsageError) as caught:
        defaults(app)
    assert str(caught.value).startswith(str(config))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_named_has_to_be_there_and_any_other_need_not(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match="isn't there"):
        defaults(app)
    monkeypatch.delenv("MMSEARCH_CONFIG")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert defaults(typer.Typer()) is None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["qurey", "x"], "did you mean 'query'?"),
        (["query", "x", "--in", "imgae"], "did you mean 'image'?"),
        (["query", "x", "--jsn"], "No such option: --jsn; did you mean --json?"),
        (["model", "lst"], "did you mean 'list'?"),
    ],
)
def test_a_slip_of_the_keys_is_answered_with_what_was_meant(run: Run, arguments: list[str], said: str) -> None:
    done = run(*arguments)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert said in done.stderr


def test_what_is_like_nothing_gets_no_guess() -> None:
    message = "Invalid value for '--in': 'zzz' is not one of 'audio', 'image'"
    assert with_suggestion(message) == message
    assert with_suggestion("Missing argument 'FILE'") == "Missing argument 'FILE'"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_completes_commands_and_options(run: Run, shell: str) -> None:
    words = "mmsearch query --rer"
    done = run(
        _MMSEARCH_COMPLETE=f"complete_{shell}",
        COMP_WORDS=words,
        COMP_CWORD="2",
        _TYPER_COMPLETE_ARGS=words,
        _TYPER_COMPLETE_FISH_ACTION="get-args",
    )
    assert "--rerank" in done.stdout, done.stderr
    script = run(_MMSEARCH_COMPLETE=f"source_{shell}")
    assert "_MMSEARCH_COMPLETE" in script.stdout, script.stderr
