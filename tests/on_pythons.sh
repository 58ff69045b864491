#!/bin/sh
# Runs the suite on each Python named (3.9 3.13), in a virtual environment of its own. A Python that
# is not on this machine is passed over with a word, in CI it is a failure.
set -eu
cd "$(dirname "$0")/.."

for version in "$@"; do
    python=$(tests/find_python.sh "$version")
    if [ -z "$python" ]; then
        echo "Python $version is not on this machine: the suite did not run on it"
        [ "${CI:-}" = true ] && exit 1
        continue
    fi
    venv=.venv-$version
    [ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
    "$venv/bin/pip" install --quiet --editable '.[test]'
    echo "--- Python $version"
    "$venv/bin/python" -m pytest -m "not once and not browser"
done
