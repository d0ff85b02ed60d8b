"""MLflow: a sweep's runs and models, the process that writes them, the server."""
