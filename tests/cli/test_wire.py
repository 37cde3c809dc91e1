"""What mmsearch's objects look like as JSON: names and values, to the letter."""

from __future__ import annotations

import ast
import json
from pathlib import Path

from conftest import REPOSITORY

from mmsearch import (
    AdaptReport,
    Answer,
    Check,
    Evaluation,
    Failure,
    Gain,
    Hit,
    IndexReport,
    IndexStatus,
    Modality,
    Neighbour,
    Stage,
    Status,
    View,
    Why,
    wire,
)
from mmsearch.metrics import Interval

WHY = Why(1.23456789, None, 0.5, (Neighbour(Path("b.jpg"), 2.00000049),))
HIT = Hit(1, 1.73456789, 0.987654, Path("/a/clip.mp4"), Modality.VIDEO, View.AUDIO, 2.5, 5.0, None, "mini", id=7)
PLAIN = {
    "rank": 1,
    "score": 1.734568,
    "confidence": 0.9877,
    "path": "/a/clip.mp4",
    "modality": "video",
    "view": "audio",
    "start_s": 2.5,
    "end_s": 5.0,
    "text": None,
    "space": "mini",
    "id": 7,
}


def sent(fields: wire.JsonObject) -> object:
    """Return an object as its reader gets it."""
    return json.loads(json.dumps(fields))


def test_a_hit_has_the_contracts_names_and_says_why_only_where_that_was_asked() -> None:
    assert sent(wire.from_hit(HIT)) == PLAIN
    explained = Hit(1, 1.73456789, 0.987654, HIT.path, HIT.modality, HIT.view, 2.5, 5.0, None, "mini", WHY, 7)
    assert sent(wire.from_hit(explained)) == PLAIN | {
        "why": {
            "first_stage": 1.234568,
            "hubness": None,
            "agreement": 0.5,
            "neighbours": [{"path": "b.jpg", "similarity": 2.0}],
        }
    }


def test_an_answer_is_one_object_with_the_counts_of_what_it_does_not_show() -> None:
    assert sent(wire.from_answer(Answer([HIT], hidden=2, weak=3))) == {"hits": [PLAIN], "hidden": 2, "weak": 3}


def test_reports_of_a_library_have_the_contracts_names() -> None:
    failure = Failure(Path("x.jpg"), Stage.DECODE, "broken")
    report = IndexReport(1, 2, 3, 4, 1, 0.5, (failure,), interrupted=True)
    assert sent(wire.from_index_report(report)) == {
        "added": 1,
        "updated": 2,
        "reused": 3,
        "removed": 4,
        "failed": 1,
        "seconds": 0.5,
        "failures": [{"path": "x.jpg", "stage": "decode", "reason": "broken"}],
    }
    index = IndexStatus("mini", View.VISUAL, "flat-fp16", 7, stale=True)
    roots: dict[Path, tuple[str, ...]] = {Path("/media"): ("*.png",)}
    status = Status(Path("/l"), "mini", {Modality.IMAGE: 7}, 9, 1, (index,), 1000, roots=roots)
    assert sent(wire.from_status(status)) == {
        "library": "/l",
        "model": "mini",
        "media": {"image": 7},
        "segments": 9,
        "failures": 1,
        "roots": ["/media"],
        "indexes": [{"space": "mini", "view": "visual", "kind": "flat-fp16", "count": 7, "stale": True}],
        "bytes": 1000,
    }
    check = Check("catalog", ok=False, detail="torn", repaired=True)
    assert sent(wire.from_check(check)) == {"check": "catalog", "ok": False, "detail": "torn", "repaired": True}


def test_measurements_carry_their_intervals() -> None:
    half = Interval(0.5, 0.25, 0.75)
    evaluation = Evaluation("text→image", 3, {"mrr": half})
    assert sent(wire.from_evaluation(evaluation)) == {"direction": "text→image", "queries": 3, "mrr": [0.5, 0.25, 0.75]}
    compared = Evaluation("text→image", 3, {"mrr": half}, {"mrr": Interval(0.0, -0.5, 0.5)})
    assert sent(wire.from_evaluation(compared)) == {
        "direction": "text→image",
        "queries": 3,
        "mrr": [0.5, 0.25, 0.75],
        "difference": {"mrr": [0.0, -0.5, 0.5]},
    }
    report = AdaptReport(True, "mini-own", 64, half, (Gain("text→visual", 6, "mrr", 0.25, 0.5, half),), 1.5)
    assert sent(wire.from_adapt_report(report)) == {
        "adapted": True,
        "model": "mini-own",
        "pairs": 64,
        "seconds": 1.5,
        "overall": [0.5, 0.25, 0.75],
        "gains": [
            {
                "direction": "text→visual",
                "queries": 6,
                "metric": "mrr",
                "before": 0.25,
                "after": 0.5,
                "difference": [0.5, 0.25, 0.75],
            }
        ],
    }


def test_the_command_line_prints_only_objects_that_wire_made() -> None:
    printed = []
    for file in sorted((REPOSITORY / "mmsearch" / "cli").glob("*.py")):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print_json":
                (fields,) = node.args
                printed.append(ast.unparse(fields))
    assert len(printed) >= 6
    assert all(call.startswith("wire.from_") for call in printed), printed
