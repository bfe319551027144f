"""`sentrio up`: a whole cluster on this machine, as processes of one command.

:mod:`~cluster.up.processes` starts the nodes and ends them, :mod:`~cluster.up.status` says how they
are (pure functions of what they answer), :mod:`~cluster.up.board` shows it, and
:mod:`~cluster.up.command` has the command line and the order of things. The cluster is formed by
the same code as `sentrio cluster create`.
"""
