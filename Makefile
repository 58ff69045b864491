# The two commands of the README are `make demo` and `make test`.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.PHONY: demo test test-browser lint bench bench-live bench-forwarding package package-with-scapy clean

demo: $(READY)
	@rm -rf demo && mkdir demo
	$(BIN)/dnsqmon -r tests/data/demo.pcap -d --watchlist lookups/dnsqmon_watchlist.csv \
	    --commonlist lookups/dnsqmon_commonlist.csv | sed -n '1,12p;$$p'
	$(BIN)/dnsqmon -r tests/data/demo.pcap -w sql -f demo/queries.db --stats \
	    --watchlist lookups/dnsqmon_watchlist.csv --commonlist lookups/dnsqmon_commonlist.csv
	$(BIN)/dnsqmon report demo/queries.db

# The suite runs on this Python and on the oldest and the newest that Splunk ships.
test: $(READY) .venv-appinspect/.ready
	$(BIN)/pip install --quiet --editable '.[test]'
	$(BIN)/python -m pytest -m "not browser"
	tests/on_pythons.sh 3.9 3.13

# The dashboards in a real browser; packages and bundle are kept in .cache/browser.
test-browser: $(READY)
	$(BIN)/pip install --quiet --editable '.[test]'
	$(BIN)/python -m pytest -m browser

lint: $(READY)
	$(BIN)/pip install --quiet --editable '.[lint]'
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

bench: $(READY)
	$(BIN)/python tests/bench/offline.py

bench-live: $(READY)
	$(BIN)/python tests/bench/live.py

bench-forwarding: $(READY)
	$(BIN)/pip install --quiet --editable '.[test]'
	$(BIN)/python tests/bench/forwarding.py

package: $(READY)
	$(BIN)/python package/build.py

package-with-scapy: $(READY)
	$(BIN)/python package/build.py --with-scapy

clean:
	rm -rf $(VENV) .venv-* build dist demo .cache bin/*.egg-info

# Splunk's own validators, which want Python 3.9 to 3.12.
.venv-appinspect/.ready: tests/requirements-appinspect.txt
	python=$$(tests/find_python.sh 3.12 3.11 3.10 3.9) && $$python -m venv .venv-appinspect
	.venv-appinspect/bin/pip install --quiet --requirement tests/requirements-appinspect.txt
	@touch $@

$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable .
	@touch $@
