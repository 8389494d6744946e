"""The copy of results in MLflow."""
