#!/bin/sh
# Finds a Python 3.11 or 3.12 that runs and hands over to setup.py. A name on PATH is not enough: a pyenv shim may be there and fail.
# PYTHON=/path/to/python overrides the choice.
set -eu
cd "$(dirname "$0")/.."

accepted() {
    "$1" -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' >/dev/null 2>&1 </dev/null
}

if [ -n "${PYTHON:-}" ]; then
    if ! accepted "$PYTHON"; then
        echo "set-up failed: PYTHON=$PYTHON does not run, or is not Python 3.11 or 3.12." >&2
        exit 1
    fi
    exec "$PYTHON" scripts/setup.py --require-this-python "$@"
fi

for candidate in python3.12 python3.11 python3 python /usr/bin/python3.12 /usr/bin/python3.11 /usr/bin/python3; do
    if accepted "$candidate"; then
        exec "$candidate" scripts/setup.py "$@"
    fi
done
echo "set-up failed: no Python 3.11 or 3.12 that runs was found (tried python3.12, python3.11, python3, python)." >&2
echo "Install one, or name it: make PYTHON=/path/to/python3.12 <target>" >&2
exit 1
