#!/usr/bin/env bash
# coverage.sh VENV [PYTEST_ARGS...]: which lines of C and Python the tests run; the figures at the end.
#
# Built in build/coverage, a copy. The lines that were not run: build/coverage/*.gcov (##### in front)
# and build/coverage/missing.txt.
set -euo pipefail

python=$PWD/$1/bin/python
[ "${1#/}" = "$1" ] || python=$1/bin/python
shift
tree=$PWD/build/coverage

echo "Building the compiled modules (coverage)" >&2
mkdir -p "$tree"
rm -rf "$tree"/{uring_loop,tests,examples,perf,scripts,deploy,objects} "$tree"/*.gcov
CFLAGS="--coverage -O0" LDFLAGS=--coverage URING_LOOP_SYMBOLS=1 "$python" setup.py --quiet \
	build --build-base "$tree/objects" --build-lib "$tree" --force
for part in tests examples perf csrc scripts deploy pyproject.toml README.md; do
	[ ! -e "$part" ] || cp -R "$part" "$tree"
done

cd "$tree"
[ $# -gt 0 ] || set -- tests --ignore tests/csrc --ignore tests/kernels
export PYTHONPATH=$tree
status=0
"$python" -m coverage run --data-file="$tree/.coverage" --source=uring_loop --branch \
	-m pytest -q -p no:cacheprovider "$@" || status=$?
"$python" -m coverage report --data-file="$tree/.coverage" --show-missing >missing.txt || true
find objects -name '*.gcda' -print0 | xargs -0 -r gcov --preserve-paths >/dev/null 2>&1 || true
"$python" - <<'END'
import pathlib

def lines(path):
    run = missed = 0
    for line in path.read_text(errors="replace").splitlines():
        count = line.split(":", 1)[0].strip()
        run += count.rstrip("*").isdigit()
        missed += count.startswith("#####")
    return run, missed

found = {}
for path in pathlib.Path().glob("*.gcov"):
    source = path.read_text(errors="replace").split("Source:", 1)[1].splitlines()[0]
    if source.startswith("csrc/") and source.endswith((".c", ".h")):
        found[source] = lines(path)
for source, (run, missed) in sorted(found.items(), key=lambda item: -item[1][1])[:12]:
    print(f"{source:44} {missed:4} of {run + missed} lines not run")
run, missed = (sum(each[part] for each in found.values()) for part in (0, 1))
print(f"C: {100 * run / max(1, run + missed):.1f} % of {run + missed} lines")
END
echo "Python (lines and branches): $(tail -n 1 missing.txt | awk '{print $NF}')"
exit "$status"
