"""Splunk's modular input `dns_query_monitor`: the script that splunkd runs."""

import sys
from pathlib import Path

sys.path.insert(1, str(Path(__file__).resolve().parent.parent / "lib"))

from dnsqmon.splunk.modinput import main

if __name__ == "__main__":
    sys.exit(main(sys.argv))
