"""`sentrio chaos`: faults for a running cluster, and a count of what they cost its clients.

Theory of operation. What is done is drawn beforehand: :mod:`~cluster.chaos.schedule` is a pure
function of a seed and of the cluster's size. It names places ("the master of the second shard");
who is there is found out when the time has come (:mod:`~cluster.chaos.lookout`). A target does it:
:mod:`~cluster.chaos.processes` for the processes of `sentrio up`, :mod:`~cluster.chaos.containers`
for those of the compose file; both say first what they cannot do, and why.

Meanwhile :mod:`~cluster.chaos.workload` writes and reads by a client that follows the cluster
(:mod:`~cluster.chaos.follower`) and writes down what it was told in a
:mod:`~cluster.chaos.history`, from which pure functions tell what was lost, duplicated or stale,
and when which shard could not be written to. :mod:`~cluster.chaos.run` has the order of things,
:mod:`~cluster.chaos.report` says how it went and :mod:`~cluster.chaos.timeline` draws it.
"""
