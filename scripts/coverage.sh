#!/usr/bin/env bash
# coverage.sh VENV [PYTEST_ARGS...]: which lines of C and Python the tests run; the figures at the end.
#
# Built in build/coverage, a copy; the driver's C tests are compiled with counters, too, and children
# are counted with their parents. What ends by a signal or by _exit() in C tells nothing of itself.
# The lines that were not run: build/coverage/missing-c.txt and build/coverage/missing.txt.
set -euo pipefail

python=$PWD/$1/bin/python
[ "${1#/}" = "$1" ] || python=$1/bin/python
shift
tree=$PWD/build/coverage

echo "Building the compiled modules (coverage)" >&2
mkdir -p "$tree"
rm -rf "$tree"/{uring_loop,tests,examples,perf,csrc,scripts,docs,deploy,objects,programs} "$tree"/.coverage*
CFLAGS="--coverage -O0" LDFLAGS=--coverage URING_LOOP_SYMBOLS=1 "$python" setup.py --quiet \
	build --build-base "$tree/objects" --build-lib "$tree" --force
for part in tests examples perf csrc scripts docs deploy pyproject.toml setup.py Makefile *.md; do
	[ ! -e "$part" ] || cp -R "$part" "$tree"
done
cat >"$tree/coverage.ini" <<-END
	[run]
	source_dirs = $tree/uring_loop
	branch = true
	parallel = true
	data_file = $tree/.coverage
	patch = subprocess, _exit
END

cd "$tree"
[ $# -gt 0 ] || set -- tests --ignore tests/kernels
export PYTHONPATH=$tree C_TESTS_CFLAGS=--coverage
read -ra workers < <(scripts/workers.sh "$python"; echo)
status=0
"$python" -m coverage run --rcfile=coverage.ini -m pytest -q -p no:cacheprovider \
	--basetemp="$tree/programs" "${workers[@]}" "$@" || status=$?
"$python" -m coverage combine --rcfile=coverage.ini --quiet
"$python" -m coverage report --rcfile=coverage.ini --show-missing >missing.txt || true
"$python" scripts/covered_c.py objects programs >missing-c.txt
grep -v '^ ' missing-c.txt
echo "Python (lines and branches): $(tail -n 1 missing.txt | awk '{print $NF}')"
exit "$status"
