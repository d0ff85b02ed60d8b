"""``python -m orchestrator.tracking DIR``: a sweep into MLflow."""

import sys

from orchestrator.tracking.process import main

if __name__ == "__main__":
    sys.exit(main())
