"""`python -m ollm_daemon.client` is `ollm`."""

import sys

from ollm_daemon.client.cli import main

sys.exit(main())
