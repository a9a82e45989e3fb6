#!/usr/bin/env bash
# workers.sh PYTHON: the options with which pytest runs in two processes; none without pytest-xdist.
#
# What a worker gets is a file, so that the tests of one keep their order and what they share.
"$1" -c 'import xdist' 2>/dev/null || exit 0
echo --numprocesses=logical --maxprocesses=2 --dist=loadfile
