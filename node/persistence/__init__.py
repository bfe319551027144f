"""Durability: snapshots (RDB), the append-only file, and loading them at start."""
