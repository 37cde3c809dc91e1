"""Computes recall, MRR, nDCG and mAP of a library, with intervals, from the ranks of relevant contents."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mmsearch.catalog.cached import CachedCatalog
from mmsearch.errors import LibraryError, MediaError, QueryError, UsageError
from mmsearch.evaluation.judged import Judged
from mmsearch.metrics import METRICS, Interval, Ranking, bootstrap, first_rank, mean, median, paired_bootstrap
from mmsearch.model_views import OpenLibrary
from mmsearch.search.engine import Engine
from mmsearch.search.items import content_like, own_contents
from mmsearch.search.query import Query
from mmsearch.types import Evaluation, Modality, Progress

_log = logging.getLogger(__name__)
_DEPTH = 10
INDEX_RECALL = f"index_recall@{_DEPTH}"


@dataclass(frozen=True, slots=True)
class _Outcome:
    """The result of one query: its ranking, that without re-ranking, and the recall of the index's ten best."""

    direction: str
    ranking: Ranking
    plain: Ranking | None
    index_recall: float | None


def evaluate(
    library: OpenLibrary,
    judged: Sequence[Judged],
    *,
    rerank: bool | None = None,
    exact: bool = False,
    progress: Callable[[Progress], None] | None = None,
) -> list[Evaluation]:
    """Run every judged query and return an `Evaluation` for each direction, in the order of their first queries.

    Every content is ranked and nothing is cut; the query's own file is left out unless it is relevant. A relevant path
    stands for its content under any name. `rerank` True measures re-ranking and the difference it makes; None is the
    library's default. `exact` also compares the index with an exhaustive search, as "index_recall@10". The catalog is
    read into memory once for all queries. Raises `UsageError` if there is nothing to measure, `LibraryError` if the
    library changes meanwhile, and the errors of a query, which name its line.
    """
    model = library.seen()
    held = CachedCatalog(model.catalog)
    contents = held.contents()
    if not contents or not judged:
        raise UsageError(
            "there is no query" if contents else f"{library.folder} is empty; run 'mmsearch index PATH' first"
        )
    engine = model.engine.over(held)
    reference = model.engine.over(held, model.indexes.exact()) if exact else None
    known = _known_contents(judged, held, contents)
    bench = _Bench(engine, reference, held, contents, known, rerank, Counter(contents.values()))
    outcomes: dict[str, list[_Outcome]] = {}
    for n, query in enumerate(judged, 1):
        try:
            outcome = bench.ask(query)
        except (MediaError, QueryError) as error:
            error.locate(query.where)
            raise
        outcomes.setdefault(outcome.direction, []).append(outcome)
        if progress is not None:
            progress(Progress(n, len(judged), 0, ""))
    if library.seen() is not model or model.catalog.revision != held.revision:
        raise LibraryError(f"{library.folder} changed while it was measured; run this again when nothing writes to it")
    return [_summarise(direction, several) for direction, several in outcomes.items()]


def _known_contents(judged: Iterable[Judged], held: CachedCatalog, contents: Container[int]) -> Mapping[bytes, int]:
    """Return the content of each relevant path, known by its name or as a copy; log a warning for unknown paths."""
    paths = list(dict.fromkeys(path for query in judged for path in query.relevant))
    known = {path: row.content_id for path, row in held.media_at(paths).items()}
    for path in paths:
        if path not in known and (content := _content_like(path, held)) in contents:
            known[path] = content
    missing = [path for path in paths if path not in known]
    if missing:
        count = "1 relevant path isn't" if len(missing) == 1 else f"{len(missing):,} relevant paths aren't"
        _log.warning("%s in the library, and never found; the first: %s", count, os.fsdecode(missing[0]))
    return known


def _content_like(path: bytes, held: CachedCatalog) -> int:
    try:
        return content_like(path, held) or 0  # no content has the id 0
    except (MediaError, OSError):  # the file is gone or unreadable
        return 0


@dataclass(frozen=True, slots=True)
class _Bench:
    """Runs judged queries on one state of a library.

    `exact` searches exhaustively, None where the index isn't measured. `known` are the contents of relevant paths.
    """

    engine: Engine
    exact: Engine | None
    held: CachedCatalog
    contents: Mapping[int, Modality]
    known: Mapping[bytes, int]
    rerank: bool | None
    counts: Mapping[Modality, int]

    def ask(self, judged: Judged) -> _Outcome:
        own = self._own(judged.query)
        relevant = {self.known.get(path, path) for path in judged.relevant}
        left_out = own.keys() - relevant
        wanted = judged.kinds or frozenset(Modality)
        among = sum(self.counts.get(modality, 0) for modality in wanted)
        deep = replace(judged.query, k=max(1, among), rerank=self.rerank)

        def rank(query: Query) -> Ranking:
            order = [content for content in self.engine.rank(query) if content not in left_out]
            ranks = tuple(n for n, content in enumerate(order, 1) if content in relevant)
            return Ranking(ranks, len(relevant), among - sum(own[content] in wanted for content in left_out))

        asking = next(iter(own.values()), judged.modality)
        return _Outcome(
            direction=f"{asking}→{'+'.join(sorted(judged.kinds)) or 'any'}",
            ranking=rank(deep),
            plain=rank(replace(deep, rerank=False)) if self.rerank else None,
            index_recall=self._index_recall(deep, left_out),
        )

    def _own(self, query: Query) -> dict[int, Modality]:
        """Return the contents of a query's file: those known by its path, and those equal to it now."""
        (term,) = query.terms
        if not isinstance(term.item, Path):
            return {}
        named = [row.content_id for row in self.held.media_at([os.fsencode(term.item)]).values()]
        own = dict.fromkeys(own_contents(query, self.held) + named)
        return {content: self.contents[content] for content in own if content in self.contents}

    def _index_recall(self, query: Query, left_out: Iterable[int]) -> float | None:
        """Return the share of the exhaustive search's ten best that are among the index's ten best."""
        if self.exact is None:
            return None
        skipped = set(left_out)
        shallow = replace(query, k=_DEPTH + len(skipped))
        expected, returned = (
            [content for content in engine.rank(shallow) if content not in skipped][:_DEPTH]
            for engine in (self.exact, self.engine)
        )
        return len(set(expected) & set(returned)) / len(expected) if expected else 1.0


def _summarise(direction: str, outcomes: Sequence[_Outcome]) -> Evaluation:
    metrics: dict[str, Interval] = {}
    difference: dict[str, Interval] = {}
    plain = [outcome.plain for outcome in outcomes if outcome.plain is not None]
    for name, metric in METRICS.items():
        statistic = median if metric is first_rank else mean
        values = np.asarray([metric(outcome.ranking) for outcome in outcomes])
        metrics[name] = bootstrap(values, statistic)
        if plain:
            without = np.asarray([metric(ranking) for ranking in plain])
            difference[name] = paired_bootstrap(values, without, statistic)
    shares = [outcome.index_recall for outcome in outcomes if outcome.index_recall is not None]
    if shares:
        metrics[INDEX_RECALL] = bootstrap(np.asarray(shares))
    return Evaluation(direction, len(outcomes), metrics, difference)
