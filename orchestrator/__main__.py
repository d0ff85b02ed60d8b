"""Entry point of the command ``fatefront`` and of ``python -m orchestrator``."""


def main() -> None:
    """Run the command line."""
    import os
    import sys

    if any(word.partition("=")[0] == "--notify" for word in sys.argv[1:]):
        from orchestrator.watching.notify import hide

        hide()
    from orchestrator.running.environment import prepare

    # before anything imports ray or mlflow
    prepare(cluster=any(word.partition("=")[0] == "--address" for word in sys.argv[1:]))
    from orchestrator.cli import app
    from orchestrator.console import INTERRUPTED, TERMINATED

    if os.environ.get("_FATEFRONT_COMPLETE") == "complete_bash":
        from orchestrator.bash_words import answer

        answer(app)
        return
    try:
        app(prog_name="fatefront")
    except SystemExit as left:
        if left.code in (INTERRUPTED, TERMINATED):
            # all is written and closed by now; threads that Ray leaves behind when a trial is cut
            # off can crash the interpreter's own clean-up, and the exit code would be lost
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(int(left.code))
        raise


if __name__ == "__main__":
    main()
