"""Set-up and services for development: the environment, MinIO, models."""
