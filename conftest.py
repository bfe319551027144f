"""Lets the tests find each other, and what they test.

That is the installed program, with its compiled core, if there is one, and otherwise this checkout;
with ``SENTRIO_TEST_CHECKOUT=1`` it is the checkout in any case.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

if os.environ.get("SENTRIO_TEST_CHECKOUT") == "1":
    sys.path.insert(0, str(Path(__file__).parent))
else:
    sys.path.append(str(Path(__file__).parent))
