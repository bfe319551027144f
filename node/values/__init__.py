"""The data types as plain data structures: no client, no server, no clock, no I/O."""
