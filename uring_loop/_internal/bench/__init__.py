"""The comparison of event loops: `python -m uring_loop bench`, and what perf/ measures with."""
