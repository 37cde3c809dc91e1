"""The `mmsearch` command: as little as possible until Ctrl-C is in hand."""

import signal


def main() -> None:
    """Run the command line; while it is still being loaded, Ctrl-C just ends it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    from mmsearch.cli import main as run

    signal.signal(signal.SIGINT, signal.default_int_handler)
    run()


if __name__ == "__main__":
    main()
