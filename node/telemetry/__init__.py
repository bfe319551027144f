"""Metrics and health over HTTP, for Prometheus and for whatever starts and watches processes."""
