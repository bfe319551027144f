"""Our node beside a real redis-server: the same requests, the same replies, the same data.

`pair` runs requests on both and says when replies are the same. `grammar` holds the strategies
from which requests are made. `families/` holds one table per command family: adding a command is
adding a line to its table. The tests run sequences drawn from a table.
"""
