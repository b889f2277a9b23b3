"""`python -m audio_engram` is `engram`."""

import sys

from audio_engram.cli import main

sys.exit(main())
