#!/usr/bin/env bash
# pydebug.sh [PYTEST_ARGS...]: the contract and sim suites on a debug build of CPython, which checks
# references and error states itself. DEBUG_PYTHON names it; else Debian's python3-dbg is installed.
#
# Built in build/pydebug, a copy, so that nothing imports the ordinary modules.
set -euo pipefail

venv=.venv-debug tree=build/pydebug
python=${DEBUG_PYTHON:-$(command -v python3-dbg || true)}
if [ -z "$python" ]; then
	as_root=()
	[ "$(id -u)" -eq 0 ] || as_root=(sudo)
	"${as_root[@]}" apt-get install --yes --no-install-recommends python3-dbg python3-venv >/dev/null
	python=$(command -v python3-dbg)
fi
"$python" -c 'import sys; sys.exit(not hasattr(sys, "gettotalrefcount"))' ||
	{ echo "pydebug: $python is no debug build" >&2; exit 1; }
PYTHON=$python scripts/bootstrap.sh "$venv" test 'workers?' || test $? -eq 75

echo "Building the compiled modules (debug build of CPython)" >&2
mkdir -p "$tree"
rm -rf "$tree"/{uring_loop,tests,examples,perf,csrc,scripts,deploy}
URING_LOOP_DEBUG=1 "$venv/bin/python" setup.py --quiet \
	build --build-base "$tree/objects" --build-lib "$tree" --force
for part in tests examples perf csrc scripts deploy pyproject.toml README.md; do
	[ ! -e "$part" ] || cp -R "$part" "$tree"
done
python=$PWD/$venv/bin/python
cd "$tree"
[ $# -gt 0 ] || set -- tests/contract tests/sim --loop uring --loop selector
read -ra workers < <(scripts/workers.sh "$python"; echo)
PYTHONPATH=$PWD exec "$python" -X faulthandler -m pytest -q -p no:cacheprovider "${workers[@]}" "$@"
