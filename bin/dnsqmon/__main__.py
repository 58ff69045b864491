"""`python -m dnsqmon` is the `dnsqmon` command."""

import sys

from dnsqmon.cli import main

sys.exit(main())
