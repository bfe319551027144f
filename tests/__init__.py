"""Tests, by distance: unit, differential, integration."""
