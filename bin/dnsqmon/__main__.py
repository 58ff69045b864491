"""`python -m dnsqmon` is the `dnsqmon` command."""

import sys

from dnsqmon.cli.main import main

sys.exit(main())
