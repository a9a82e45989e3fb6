#!/usr/bin/env bash
# build.sh VENV MODE: compile the modules in place, and let VENV import the package from here.
# MODE only names what the environment asked of setup.py; another MODE builds everything again.
set -euo pipefail

venv=$1 mode=$2
python=$venv/bin/python
echo "Building the compiled modules ($mode)" >&2

# -I: not the metadata that an earlier build left in this directory.
if ! "$python" -I -c 'import importlib.metadata; importlib.metadata.version("uring_loop")' 2>/dev/null; then
	"$python" -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
else
	force=()
	[ -e "$venv/.built-$mode" ] || force=(--force)
	"$python" setup.py --quiet build_ext --inplace --parallel "$(nproc)" "${force[@]}"
fi
rm -f "$venv"/.built-*
