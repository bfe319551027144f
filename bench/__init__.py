"""Our node beside redis-server, measured in one run: `python -m bench`.

`load` drives both with redis-benchmark, turn by turn; `memory` weighs a million keys and members;
`stalls` looks for pauses with ten million keys; `report` prints what they found beside the targets.
"""
