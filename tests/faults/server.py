"""Runs cases that it reads from standard input, under the shim: `python server.py FOLDER`; see `client.py`.

It answers {"operation": NAME} with the calls of the operation once that is ready, {"case": [...]} with what the case
came to, and {"twist": NAME} with what a hostile library came to; a line each.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import faiss  # noqa: F401  imported before anything is forked
import filelock  # noqa: F401
import onnxruntime  # noqa: F401
import safetensors  # noqa: F401
from hostile import twists
from kills import Bench, Case
from operations import OPERATIONS, Place, pretend_adapting, pretend_exports, shorten_bank
from shim import Fault, Mode
from siege import Siege
from victim import build_once, decode_inline, share_statements, warm_up

import mmsearch.adaptation.pairs  # noqa: F401


def main() -> None:
    """Serve until standard input ends."""
    folder, answers = Path(sys.argv[1]), os.fdopen(os.dup(1), "w")
    decode_inline()
    pretend_adapting()
    shorten_bank()
    share_statements()
    warm_up(folder / "warm")
    build_once()
    benches: dict[str, Bench] = {}
    siege: Siege | None = None
    by_name = {twist.name: twist for twist in twists()}
    for line in sys.stdin:
        asked = json.loads(line)
        reply: dict[str, Any]
        if "twist" in asked:  # with the models as they are: a hostile library must not have one loaded
            siege = siege or Siege(folder / "siege")
            reply = asdict(siege.fight(by_name[asked["twist"]]))
        elif "operation" in asked:
            pretend_exports()
            number, operation = next((n, o) for n, o in enumerate(OPERATIONS) if o.name == asked["operation"])
            bench = benches[operation.name] = Bench(operation, Place(folder / str(number)))
            bench.prepare()
            reply = {"trace": bench.trace}
        else:
            name, mode, at, error, letter, asked_first = asked["case"]
            result = benches[name].run(Case(name, Fault(Mode(mode), at, error), letter, asked_first))
            reply = {"fired": result.fired, "problems": result.problems}
        answers.write(json.dumps(reply) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
