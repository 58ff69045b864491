#!/bin/sh
# Prints the command of the first of the Pythons named (3.12 3.11) that is on this machine, if any.
for version in "$@"; do
    for candidate in "python$version" "$(pyenv root 2>/dev/null)/versions/$version".*/bin/python; do
        if "$candidate" -c "import sys; sys.exit('%d.%d' % sys.version_info[:2] != '$version')" \
            >/dev/null 2>&1; then
            command -v "$candidate"
            exit
        fi
    done
done
