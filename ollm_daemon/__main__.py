"""`python -m ollm_daemon` is `ollm-daemon`."""

import sys

from ollm_daemon.cli import main

sys.exit(main())
