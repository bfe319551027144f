"""Slots, the gossip bus and the operator's tool, once a node can be part of a cluster."""
