"""Watching masters and promoting replicas, once a node can be watched."""
