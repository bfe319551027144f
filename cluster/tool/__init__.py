"""`sentrio cluster`: the operator's tool. It speaks to any cluster of Redis's kind.

Theory of operation. A cluster has no place where its state is written down: each node has a view of
its own. So the tool asks *every* node (:mod:`~cluster.tool.fleet`), puts the answers side by side
(:mod:`~cluster.tool.picture`, of the views of :mod:`~cluster.tool.view`), and lets pure functions
decide:

- :mod:`~cluster.tool.layout`: who gets which slots and whose replica in a new cluster;
- :mod:`~cluster.tool.planning`: which slots move in a reshard or a rebalance;
- :mod:`~cluster.tool.diagnosis`: what is wrong; :mod:`~cluster.tool.repair`: what mends it.

What they say is shown before anything is done, and carried out by thin executors: of which
:mod:`~cluster.tool.mover` moves slots, :mod:`~cluster.tool.fixing` repairs,
:mod:`~cluster.tool.forming` creates and changes the membership, and so on.

A slot moves in the order in which nothing is lost wherever it stops: IMPORTING on the target,
MIGRATING on the source, the keys, NODE on the target, on the source, on everybody else. Each
executor looks at what is there before it acts, so that a second run does what is left of the first.
"""
