"""The `mmsearch` command: as little as possible until Ctrl-C is in hand."""

import os
import signal


def main() -> None:
    """Run the command line; while it is still being loaded, Ctrl-C just ends it."""
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    from mmsearch.cli.loading import loading

    with loading():
        from mmsearch.cli.program import main as run
    signal.signal(signal.SIGINT, signal.default_int_handler)
    run()


if __name__ == "__main__":
    main()
