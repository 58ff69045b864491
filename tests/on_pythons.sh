#!/bin/sh
# Runs the suite on each Python named (3.9 3.13), in a virtual environment of its own. A Python that
# is not on this machine is passed over with a word, in CI it is a failure.
set -eu
cd "$(dirname "$0")/.."

find_python() {
    for candidate in "python$1" "$(pyenv root 2>/dev/null)/versions/$1".*/bin/python; do
        if "$candidate" -c "import sys; sys.exit('%d.%d' % sys.version_info[:2] != '$1')" \
            >/dev/null 2>&1; then
            echo "$candidate"
            return
        fi
    done
}

for version in "$@"; do
    python=$(find_python "$version")
    if [ -z "$python" ]; then
        echo "Python $version is not on this machine: the suite did not run on it"
        [ "${CI:-}" = true ] && exit 1
        continue
    fi
    venv=.venv-$version
    [ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
    "$venv/bin/pip" install --quiet --editable '.[test]'
    echo "--- Python $version"
    "$venv/bin/python" -m pytest -m "not once"
done
