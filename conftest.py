"""Lets the tests find each other, behind whatever is installed: the program tested is the installed
one, with its compiled core, if there is one.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
