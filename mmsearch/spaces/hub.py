"""Model files from the Hugging Face hub, and the hub's cache on this disk: the one seam through which they come.

`huggingface_hub` fetches them. `find` and `answers`, which a query may ask, do without it, for its import takes longer
than they do. They know its cache: refs/main holds the commit, snapshots/COMMIT the files, .no_exist/COMMIT empty
ones for those that the commit doesn't have, and blobs the contents.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from mmsearch.errors import FULL, CacheFullError, ModelError, ModelUnavailableError, WrongModelError
from mmsearch.files import read_bounded
from mmsearch.paths import expand

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoSibling

_T = TypeVar("_T")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_NAME = r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,94}[A-Za-z0-9_])?"
_REPOSITORY = re.compile(rf"(?!.*(--|\.\.))({_NAME}/)?{_NAME}(?<!\.git)")
_PATIENCE_S = 10.0
"""How long the hub may take to say what a repository holds; the library would wait for a name server for ever."""


def check_name(repository: str) -> None:
    """Raise `ModelError` for what can't be a repository's name."""
    if not _REPOSITORY.fullmatch(repository):
        raise WrongModelError(f"{repository!r} can't be a model of the hub: write it as ORGANISATION/NAME")


def find(repository: str, names: Sequence[str]) -> Path | None:
    """Return the first of these files that is in the hub's cache on this disk, if any; asks no network."""
    check_name(repository)
    folder = _snapshot(repository, [names])
    return folder and _first(folder, names)


def fetch(repository: str, names: Sequence[str], *, fetch: bool = True) -> Path:
    """Return the first of these files that the repository has, from the cache or downloaded. Raises as `fetch_all`."""
    folder = fetch_all(repository, [names], fetch=fetch)
    return _first(folder, names) or folder / names[0]


def fetch_all(
    repository: str, needed: Sequence[Sequence[str]], optional: Sequence[str] = (), *, fetch: bool = True
) -> Path:
    """Return the folder with these files of one commit (its name), from the cache or downloaded.

    Of each group in `needed` it has the first that the repository has, and those `optional` ones that exist. What the
    cache holds is not looked up again: a model stays as it is until its files are removed. Raises `ModelError` if a
    file is missing, refused or broken off, or if there is no network or no room for it. Without `fetch`, the cache has
    to do.
    """
    check_name(repository)
    cached, here = _folder_of(repository), _snapshot(repository, needed)
    if here:
        known = (here, cached / ".no_exist" / here.name)
        if not fetch or _offline() or all(any((folder / name).is_file() for folder in known) for name in optional):
            return here
    elif not fetch:
        raise ModelUnavailableError(
            f"{repository} is not whole in the hub's cache on this machine; if you trust it, run 'mmsearch model pull "
            f"hf-hub:{repository}'"
        )
    elif _offline():
        raise ModelUnavailableError(
            f"{repository} is not whole in the cache, and HF_HUB_OFFLINE forbids to fetch it; unset HF_HUB_OFFLINE and "
            f"TRANSFORMERS_OFFLINE, or use --model mini, or copy {cached} from a computer that has it"
        )
    what = repository
    try:
        with _quiet():
            from huggingface_hub import hf_hub_download
            from huggingface_hub.errors import EntryNotFoundError

            commit, there = _ask(repository, here.name if here else "main")
            chosen = [] if here else [_choose(repository, names, there) for names in needed]
            _check_room(repository, [there[name] for name in {*optional, *chosen} if name in there])
            for name in (*optional, *chosen):
                what = f"{name} of {repository}"
                with nullcontext() if name in there else suppress(EntryNotFoundError):  # the cache notes that, too
                    hf_hub_download(repository, name, revision=commit, cache_dir=cached.parent, endpoint=_endpoint())
        if not here:  # last: until all has come, the cache shows the commit that was complete
            (cached / "refs").mkdir(exist_ok=True)
            (cached / "refs" / "main").write_text(commit, "utf-8")
    except ModelError:
        raise
    except Exception as error:  # of whatever HTTP library the hub's own uses in this version
        if here and what == repository:
            return here  # what is needed is here: no network is no reason to refuse it
        raise _refusal(repository, what, error) from error
    return cached / "snapshots" / commit


@contextmanager
def network_forbidden() -> Iterator[None]:
    """Let the hub's own library, and those that load models with it, use nothing but the cache meanwhile."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def answers(repository: str, within_s: float = 3.0) -> bool:
    """Return whether the hub has this public repository and says so within this time; False at once in offline mode."""
    if _offline() or not _REPOSITORY.fullmatch(repository):
        return False
    import ssl
    from http.client import HTTPException
    from urllib.error import HTTPError
    from urllib.request import urlopen

    context = ssl.create_default_context()
    with suppress(ImportError):  # the system's certificates, as the library has them: this Python may not know them
        import truststore

        context = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    url = f"{_endpoint()}/api/models/{repository}/revision/main"  # what `fetch_all` would ask first
    try:
        _within(within_s, lambda: urlopen(url, timeout=within_s, context=context)).close()
        return True
    except HTTPError as refusal:
        refusal.close()
    except (OSError, ValueError, HTTPException):
        pass
    return False


def _ask(repository: str, revision: str) -> tuple[str, dict[str, RepoSibling]]:
    """Return the commit that a revision stands for, and its files by name."""
    from huggingface_hub import HfApi

    ask = HfApi(endpoint=_endpoint()).model_info
    about = _within(_PATIENCE_S, lambda: ask(repository, revision=revision, files_metadata=True, timeout=_PATIENCE_S))
    if not _COMMIT.fullmatch(about.sha or ""):
        raise ValueError
    return str(about.sha), {file.rfilename: file for file in about.siblings or ()}


def _choose(repository: str, names: Sequence[str], there: Collection[str]) -> str:
    if not (chosen := next((name for name in names if name in there), "")):
        raise WrongModelError(f"{repository} on the hub has no {' or '.join(names)}; choose another model")
    return chosen


def _check_room(repository: str, files: Sequence[RepoSibling]) -> None:
    """Raise `ModelError` unless the disk has room for what is still to come; the library only warns."""
    cache, blobs = _cache_folder(), _folder_of(repository) / "blobs"
    coming = [file for file in files if not (blobs / str(file.lfs.sha256 if file.lfs else file.blob_id)).is_file()]
    need = sum(file.size or 0 for file in coming)
    if need > (free := shutil.disk_usage(next(place for place in (cache, *cache.parents) if place.exists())).free):
        raise CacheFullError(
            f"{repository} needs {need / 1e6:,.1f} MB more in {cache}, where {free / 1e6:,.1f} MB are free; make room "
            "there, or set HF_HOME to a folder on another disk"
        )


def _refusal(repository: str, what: str, error: BaseException) -> ModelError:
    """Say in one line why something can't be fetched, and what to do."""
    from huggingface_hub.errors import FileMetadataError, GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

    if isinstance(error, OSError) and error.errno:  # of the disk: the network's are wrapped
        full = error.errno in FULL
        remedy = "make room there" if full else "make that folder writable"
        return (CacheFullError if full else ModelUnavailableError)(
            f"{what} can't be kept in {_cache_folder()}: {error.strerror}; {remedy}, or set HF_HOME to another folder"
        )
    misfits = (FileMetadataError, ValueError, TypeError, KeyError)
    while not isinstance(error, (HfHubHTTPError, *misfits)) and (cause := error.__cause__ or error.__context__):
        error = cause
    if not isinstance(error, HfHubHTTPError):
        why = "it doesn't answer as the hub does" if isinstance(error, misfits) else str(error) or "no answer in time"
        why = (getattr(error, "strerror", None) or why).splitlines()[0].rstrip(".")  # a bad certificate is both
        return ModelUnavailableError(
            f"{what} can't be fetched from {_endpoint()}: {why}; check the network, the proxy and HF_ENDPOINT and run "
            f"it again, or use --model mini, or copy {_folder_of(repository)} from a computer that has it"
        )
    status, page = error.response.status_code, f"{_endpoint()}/{repository}"
    log_in = "log in with `hf auth login` or set HF_TOKEN"
    if isinstance(error, GatedRepoError):
        return ModelUnavailableError(f"{repository} is gated: accept its terms on {page}, then {log_in}")
    if error.response.headers.get("X-Error-Message", "").startswith("Invalid credentials"):
        return ModelUnavailableError(
            f"the hub doesn't accept your token for {repository}: {log_in}, or remove the token"
        )
    if isinstance(error, RepositoryNotFoundError) or (status in {401, 404} and what == repository):
        return WrongModelError(f"the hub has no model {repository}, or it is private: check the name, or {log_in}")
    if status == 429:
        return ModelUnavailableError(
            f"the hub takes no more requests for {what} now (HTTP 429); wait some minutes, or {log_in}"
        )
    if status >= 500:
        return ModelUnavailableError(
            f"the hub has a fault (HTTP {status} for {what}); try again later, or use --model mini"
        )
    return ModelUnavailableError(f"the hub refuses {what} (HTTP {status}); see {page}, and {log_in}")


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the library's log lines and warnings off the terminal; its bars show only where stderr is one."""
    with warnings.catch_warnings(action="ignore"):
        from huggingface_hub.utils import logging as theirs

        level = theirs.get_verbosity()
        theirs.set_verbosity(logging.CRITICAL)
        try:
            yield
        finally:
            theirs.set_verbosity(level)


def _within(seconds: float, call: Callable[[], _T]) -> _T:
    """Return what the call returns, or raise TimeoutError: looking up a host's name can't be timed out otherwise."""
    from concurrent.futures import Future
    from threading import Thread

    done: Future[_T] = Future()

    def work() -> None:
        try:
            done.set_result(call())
        except BaseException as error:  # handed over, and raised where it was asked for
            done.set_exception(error)

    Thread(target=work, daemon=True).start()
    return done.result(seconds)


def _snapshot(repository: str, groups: Sequence[Sequence[str]]) -> Path | None:
    """Return the folder of the newest commit in the cache if it has a file of every group."""
    try:
        commit = read_bounded(_folder_of(repository) / "refs" / "main", 256).decode("utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None
    folder = _folder_of(repository) / "snapshots" / commit
    return folder if _COMMIT.fullmatch(commit) and all(_first(folder, names) for names in groups) else None


def _first(folder: Path, names: Sequence[str]) -> Path | None:
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _folder_of(repository: str) -> Path:
    """Return where a repository's files lie in the cache."""
    return _cache_folder() / f"models--{repository.replace('/', '--')}"


def _cache_folder() -> Path:
    """Return where the hub's files lie on this disk, by the rules of its own library."""
    home = os.environ.get("HF_HOME") or f"{os.environ.get('XDG_CACHE_HOME') or '~/.cache'}/huggingface"
    named = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE") or f"{home}/hub"
    return Path(os.path.expandvars(expand(named)))


def _endpoint() -> str:
    return (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")


def _offline() -> bool:
    """Return whether the user forbids the network."""
    said = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE", "")
    return said.upper() in {"1", "ON", "YES", "TRUE"}
