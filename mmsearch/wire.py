r"""Records → JSON: the only place that decides what mmsearch's objects look like on the wire.

Every function returns one JSON object as a dict. Whoever answers programs (the command line, later a server) prints
these and adds nothing. Bytes of a path that aren't UTF-8 appear as lone surrogates, \udc80 to \udcff.
"""

from __future__ import annotations

from dataclasses import fields
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from mmsearch.metrics import Interval
    from mmsearch.records import Details, FileFacts, Item, Segment, Text
    from mmsearch.types import (
        AdaptReport,
        Answer,
        Check,
        Evaluation,
        Facets,
        Failure,
        Gain,
        Hit,
        IndexReport,
        IndexStatus,
        Status,
        Why,
    )

JsonObject: TypeAlias = dict[str, Any]


def from_hit(hit: Hit) -> JsonObject:
    """Return a hit; `why` is there only where the query asked for it, `page` and `heading` only in documents."""
    found = {
        "rank": hit.rank,
        "score": round(hit.score, 6),
        "confidence": None if hit.confidence is None else round(hit.confidence, 4),
        "path": str(hit.path),
        "modality": hit.modality,
        "view": hit.view,
        "start_s": hit.start_s,
        "end_s": hit.end_s,
        "text": hit.text,
        "space": hit.space,
        "id": hit.id,
    }
    found |= _place(hit.page, hit.heading)
    return found if hit.why is None else found | {"why": _from_why(hit.why)}


def from_answer(answer: Answer) -> JsonObject:
    """Return an answer as one object: its hits, and how many more were hidden as copies or cut as weak."""
    return {"hits": [from_hit(hit) for hit in answer.hits], "hidden": answer.hidden, "weak": answer.weak}


def _from_why(why: Why) -> JsonObject:
    return {
        "first_stage": round(why.first_stage, 6),
        "hubness": None if why.hubness is None else round(why.hubness, 6),
        "agreement": round(why.agreement, 6),
        "neighbours": [
            {"path": str(neighbour.path), "similarity": round(neighbour.similarity, 6)} for neighbour in why.neighbours
        ],
    }


def from_item(item: Item) -> JsonObject:
    """Return what the library holds of a file."""
    return {
        "id": item.id,
        "path": str(item.path),
        "modality": item.modality,
        "texts": [from_text(text) for text in item.texts],
        "facts": from_facts(item.facts),
    }


def from_segment(segment: Segment[None]) -> JsonObject:
    """Return a segment with its texts."""
    texts = [from_text(text) for text in segment.texts]
    times = {"start_s": segment.start_s, "end_s": segment.end_s, "silent": segment.silent}
    return {**times, **_place(segment.page, segment.heading), "texts": texts}


def from_facets(facets: Facets) -> JsonObject:
    """Return by what a library's contents can be told apart, with their counts."""
    return {"modalities": dict(facets.modalities), "years": dict(facets.years), "cameras": dict(facets.cameras)}


def from_index_report(report: IndexReport) -> JsonObject:
    """Return what an index run did."""
    return {
        "added": report.added,
        "updated": report.updated,
        "reused": report.reused,
        "removed": report.removed,
        "failed": report.failed,
        "seconds": report.seconds,
        "failures": [from_failure(failure) for failure in report.failures],
    }


def from_failure(failure: Failure) -> JsonObject:
    """Return a file that couldn't be indexed."""
    return {"path": str(failure.path), "stage": failure.stage, "reason": failure.reason}


def from_details(details: Details) -> JsonObject:
    """Return all that is known of a file."""
    item = details.item
    return {
        "id": item.id if item else None,
        "paths": [str(path) for path in details.paths],
        "modality": item.modality if item else None,
        "facts": from_facts(item.facts) if item else {},
        "segments": [from_segment(segment) for segment in details.segments],
        "failure": from_failure(details.failure) if details.failure else None,
    }


def _place(page: int | None, heading: str | None) -> JsonObject:
    """Return where a passage stands in its document, as far as that is known."""
    return {name: value for name, value in (("page", page), ("heading", heading)) if value is not None}


def from_facts(facts: FileFacts) -> JsonObject:
    """Return what a file says of itself; null where it doesn't."""
    found = {each.name: getattr(facts, each.name) for each in fields(facts)}
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in found.items()}


def from_text(text: Text) -> JsonObject:
    """Return a text with where it comes from; times are those at which it is said."""
    start_s, end_s = text.span or (None, None)
    words = {"origin": text.origin, "words": text.words, "language": text.language}
    return {**words, "start_s": start_s, "end_s": end_s}


def from_status(status: Status) -> JsonObject:
    """Return what a library holds."""
    return {
        "library": str(status.library),
        "model": status.profile,
        "media": dict(status.media),
        "segments": status.segments,
        "failures": status.failures,
        "roots": [str(path) for path in status.roots],
        "indexes": [_from_index_status(index) for index in status.indexes],
        "bytes": status.bytes,
    }


def _from_index_status(index: IndexStatus) -> JsonObject:
    return {
        "space": index.space,
        "view": index.view,
        "kind": index.kind,
        "count": index.count,
        "stale": index.stale,
    }


def from_evaluation(evaluation: Evaluation) -> JsonObject:
    """Return the metrics of one direction, each as [value, low, high]."""
    found: JsonObject = {"direction": evaluation.direction, "queries": evaluation.queries}
    found |= {name: from_interval(interval) for name, interval in evaluation.metrics.items()}
    if evaluation.difference:
        found["difference"] = {name: from_interval(interval) for name, interval in evaluation.difference.items()}
    return found


def from_interval(interval: Interval) -> list[float]:
    """Return a value with its 95 % interval: [value, low, high]."""
    return [interval.value, interval.low, interval.high]


def from_adapt_report(report: AdaptReport) -> JsonObject:
    """Return what adapting a library gained."""
    return {
        "adapted": report.adapted,
        "model": report.model,
        "pairs": report.pairs,
        "seconds": report.seconds,
        "overall": from_interval(report.overall),
        "gains": [_from_gain(gain) for gain in report.gains],
    }


def _from_gain(gain: Gain) -> JsonObject:
    return {
        "direction": gain.direction,
        "queries": gain.queries,
        "metric": gain.metric,
        "before": gain.before,
        "after": gain.after,
        "difference": from_interval(gain.difference),
    }


def from_check(check: Check) -> JsonObject:
    """Return one check of the doctor."""
    return {"check": check.check, "ok": check.ok, "detail": check.detail, "repaired": check.repaired}


def from_written(lines: int) -> JsonObject:
    """Return how many lines a file of judged queries was given."""
    return {"lines": lines}
