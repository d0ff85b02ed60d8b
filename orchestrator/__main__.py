"""Entry point of the command ``fatefront`` and of ``python -m orchestrator``."""


def main() -> None:
    """Run the command line."""
    from orchestrator.environment import prepare

    prepare()  # before anything imports ray or mlflow
    from orchestrator.cli import app

    app()


if __name__ == "__main__":
    main()
