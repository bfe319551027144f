"""One data server: commands, keyspace, wire, and what a running node is made of."""
