"""The `mmsearch` command: as little as possible until Ctrl-C is in hand."""

import gc
import os
import signal


def main() -> None:
    """Run the command line; while it is still being loaded, Ctrl-C just ends it."""
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    # Everything that is imported stays. Searching it for garbage meanwhile would take a twentieth of a query.
    gc.disable()
    from mmsearch.cli.program import main as run

    gc.freeze()
    gc.enable()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    run()


if __name__ == "__main__":
    main()
