"""What PyInstaller freezes: the program, called as its console script calls it."""

import sys

from llorch.__main__ import main

sys.exit(main())
