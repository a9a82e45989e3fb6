"""Breaks one line of an invariant in a copy, and shows whether the tests see it (`make mutants`).

    python scripts/mutants.py                    every mutant; the table of who was killed
    python scripts/mutants.py cancel-forgotten   these
    python scripts/mutants.py --list

Each mutant is one edit of a C source that must be there word for word (a source that has changed
makes the mutant an error, not a success), and the tests that should see it. The copy is in
build/mutants; the exit status is 1 if a mutant survived. What each run said is in
build/mutants/NAME.txt.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "mutants"
COPY = BUILD / "copy"
COPIED = ("csrc", "uring_loop", "tests", "setup.py", "pyproject.toml", "README.md")
# A mutant that hangs is seen too.
SECONDS = 300

SIM = ("tests/sim",)
STREAMS = ("tests/sim", "-k", "stream or loop_close")
PIPES = ("tests/sim/test_sim_pipes.py", "tests/sim/test_sim_pipes_machine.py")
TLS = (
    "tests/sim/test_sim_tls_machine.py",
    "tests/contract/test_tls_buffers.py",
    "tests/contract/test_tls_flow.py",
)
RECORDS = (
    "tests/contract/test_tls_records.py",
    "tests/contract/test_tls_object.py",
    "tests/contract/test_tls_flow.py",
    "tests/sim/test_sim_tls_machine.py",
)
CLASSES = ("tests/contract/test_stream_classes.py", "tests/contract/test_streams.py")
REQUESTS = ("tests/sim/test_sim_requests.py",)


@dataclass(frozen=True)
class Mutant:
    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


MUTANTS = (
    # Generations.
    Mutant(
        "generation-stays",
        "csrc/driver/slots.c",
        "slot->generation == SLOT_GENERATION_MAX ? 1 : slot->generation + 1;",
        "slot->generation;",
        ("tests/csrc", "-k", "slots"),
    ),
    Mutant(
        "watch-generation-stays",
        "csrc/driver/ring/watches.c",
        "watches->generation = watches->generation % GENERATION_MAX + 1;",
        "watches->generation = 1;",
        ("tests/csrc", "-k", "watches"),
    ),
    # References.
    Mutant(
        "owner-not-held",
        "csrc/core/operations/operation.c",
        "\tPy_INCREF(operation->holder);\n\toperation->weak = false;\n\toperation->next",
        "\toperation->weak = true;\n\toperation->next",
        STREAMS,
    ),
    Mutant(
        "owner-never-dropped",
        "csrc/core/operations/operation.c",
        "\tif (!operation->weak)\n\t\tPy_DECREF(operation->holder);",
        "\t(void)operation;",
        STREAMS,
    ),
    Mutant(
        "paused-keeps-itself",
        "csrc/core/transports/stream_read.c",
        "\toperation_weaken(&base->receive);\n",
        "",
        ("tests/sim", "tests/contract/test_garbage.py", "-k", "stream or garbage"),
    ),
    # Pipes.
    Mutant(
        "pipe-overtakes-its-queue",
        "csrc/core/pipes/write_pipe.c",
        "if (likely(queued(self) == 0)) {",
        "{",
        ("tests/contract/test_pipes.py",),
    ),
    Mutant(
        "pipe-writes-twice",
        "csrc/core/pipes/write_pipe.c",
        "PySequence_DelSlice(queue, 0, count) < 0",
        "PySequence_DelSlice(queue, 0, count - 1) < 0",
        PIPES,
    ),
    Mutant(
        "pipe-polled-for-nothing",
        "csrc/core/pipes/write_pipe.c",
        "\tif (pipe_end_poll(&self->base, &self->base.poll) < 0)\n\t\treturn NULL;\n",
        "",
        PIPES,
    ),
    Mutant(
        "pipe-not-lost-after-an-interrupt",
        "csrc/core/pipes/write_pipe.c",
        "\t\tstatus = lose_written(self, status);",
        "\t\tstatus = status < 0 ? status : lose_written(self, status);",
        PIPES,
    ),
    # What comes behind a fork, an interrupt, a cancel.
    Mutant(
        "child-takes-its-parents-bytes-for-an-end",
        "csrc/core/transports/stream_read.c",
        "if (completion->result == -ECANCELED)",
        "if (completion->result == -ECANCELED && base->reading == READING_CANCELLED)",
        ("tests/sim/test_sim_forks.py",),
    ),
    Mutant(
        "long-callback-eats-an-interrupt",
        "csrc/core/base/clock.c",
        "status = exception_ends_loop() ? -1 : 0;",
        "status = 0;",
        ("tests/contract/test_statistics_time.py",),
    ),
    Mutant(
        "cancelled-close-writes-nothing",
        "uring_loop/_internal/files/binary.py",
        "                await self._descriptor.settled()\n                await self._flush()\n",
        "                pass\n",
        ("tests/contract/test_files.py", "-k", "closing"),
    ),
    Mutant(
        "cancelled-read-turns-its-bytes-round",
        "uring_loop/_internal/files/binary.py",
        "self._buffer[self._index : at] + part + self._buffer[at:]",
        "self._buffer[self._index :] + part",
        (
            "tests/contract/test_file_positions.py",
            "tests/contract/test_file_calls.py",
            "tests/contract/test_files.py",
        ),
    ),
    # Orders.
    Mutant(
        "ready-order",
        "csrc/core/callbacks/ready.c",
        "queue->items[(queue->head + i) & queue->mask]",
        "queue->items[i]",
        ("tests/sim/test_sim_scheduling.py",),
    ),
    Mutant(
        "equal-deadlines-order",
        "csrc/core/callbacks/timers.c",
        "left->sequence < right->sequence",
        "left->sequence > right->sequence",
        ("tests/sim/test_sim_scheduling.py",),
    ),
    Mutant(
        "timer-taken-not-sifted-up",
        "csrc/core/callbacks/timers.c",
        "if (index > 0 && timers_before",
        "if (index > heap->count && timers_before",
        ("tests/sim/test_sim_scheduling.py",),
    ),
    Mutant(
        "datagram-queue-order",
        "csrc/core/transports/datagram_send.c",
        "\tself->head = (self->head + 1) & (self->capacity - 1);\n\tself->count--;",
        "\tself->count--;",
        ("tests/sim", "-k", "datagram"),
    ),
    Mutant(
        "new-reader-hears-the-old-event",
        "csrc/core/descriptors/readers.c",
        "registered >= self->turn",
        "registered > self->turn",
        ("tests/sim/test_sim_readers.py",),
    ),
    # Bytes.
    Mutant(
        "short-send-counts-double",
        "csrc/core/transports/stream_send.c",
        "\t\t\tchunk->data += sent;\n",
        "",
        STREAMS,
    ),
    Mutant(
        "drained-with-a-queue",
        "csrc/core/transports/stream_send.c",
        "if (likely(self->chunk_count == 0) && likely(",
        "if (likely(",
        STREAMS,
    ),
    Mutant(
        "data-while-paused",
        "csrc/core/transports/stream_read.c",
        "\t\tif (self->base.paused)\n\t\t\treturn stream_hold_back(self, data, size);\n",
        "",
        STREAMS,
    ),
    Mutant(
        "rest-lost-at-interrupt",
        "csrc/core/transports/stream_read.c",
        "\t\t\tstream_hold_back_rest(self, data, size);\n",
        "",
        STREAMS,
    ),
    # Memory of the kernel's.
    Mutant(
        "memory-in-flight-freed",
        "csrc/core/transports/stream_send.c",
        "while (self->chunk_count > self->in_flight) {",
        "self->in_flight = 0;\n\twhile (self->chunk_count > 0) {",
        STREAMS,
    ),
    Mutant(
        "kept-memory-freed",
        "csrc/core/transports/stream_send.c",
        "\t\t\tPy_INCREF(stream_chunk(self, self->in_flight)->owner);\n",
        "",
        ("tests/sim", "tests/contract/test_write_in_flight.py"),
    ),
    Mutant(
        "buffer-not-returned",
        "csrc/core/transports/transport_read.h",
        "\tif (completion->flags & UL_LENT)\n"
        "\t\tloop->table->recycle(loop->driver, completion->data);\n",
        "",
        STREAMS,
    ),
    Mutant(
        "recycled-buffer-not-returned",
        "csrc/driver/ring/streams.c",
        "\tpool_give(pool, pool_index(pool, data));\n",
        "\t(void)pool;\n",
        ("tests/contract/test_transport_read.py", "tests/contract/test_load.py", "--loop=uring"),
    ),
    # Cancels, and who waits for them.
    Mutant(
        "close-waits-for-no-send",
        "csrc/core/transports/stream_send.c",
        "\t\tif (self->base.state == TRANSPORT_JOINING)\n"
        "\t\t\tself->base.kind->join(&self->base);\n",
        "",
        STREAMS,
    ),
    Mutant(
        "completion-in-the-batch-forgotten",
        "csrc/core/operations/operation.c",
        "return !batch_ends(self, operation->token);",
        "return true;",
        SIM,
    ),
    Mutant(
        "cancel-forgotten",
        "csrc/core/descriptors/sockets.c",
        "\t\toperation_cancel(loop, &self->poll);\n",
        "\t\t(void)loop;\n",
        ("tests/sim/test_sim_sockets_machine.py", "tests/contract/test_socket_cancel.py"),
    ),
    Mutant(
        "next-waiter-not-served",
        "csrc/core/descriptors/sockets.c",
        "\tif (likely(next == NULL))\n\t\treturn;\n",
        "\tif (likely(next == NULL) || !loop->closed)\n\t\treturn;\n",
        ("tests/sim/test_sim_sockets_machine.py", "tests/contract/test_socket_cancel.py"),
    ),
    Mutant(
        "accepted-after-stop-leaks",
        "csrc/core/transports/listener.c",
        "\t\tif (completion->result >= 0)\n\t\t\tconnection_refuse(completion->result);\n",
        "",
        ("tests/sim", "-k", "listener or descriptors"),
    ),
    Mutant(
        "accept-not-armed-again",
        "csrc/core/transports/listener.c",
        "if (terminal && (completion->result >= 0 ||",
        "if (terminal && (completion->result > 1 << 30 ||",
        ("tests/sim", "-k", "listener or descriptors"),
    ),
    # Flow control.
    Mutant(
        "resume-too-early",
        "csrc/core/transports/stream_send.c",
        "if (!self->base.protocol_paused || self->base.queued_bytes > self->base.low_water)",
        "if (!self->base.protocol_paused)",
        STREAMS,
    ),
    Mutant(
        "room-not-noticed",
        "csrc/driver/selector/turn.c",
        "\t\tif (descriptor->writers.first != NULL)\n\t\t\tdue |= DUE_WRITE;\n",
        "",
        (
            "tests/contract/test_flow_control.py",
            "tests/contract/test_transport_bulk.py",
            "tests/contract/test_any_order.py",
            "--loop=selector",
        ),
    ),
    # TLS.
    Mutant(
        "tls-reads-while-paused",
        "csrc/core/tls/records_read.c",
        "\t       !self->app_reading_paused;\n",
        "\t       true;\n",
        TLS,
    ),
    Mutant(
        "tls-rest-of-a-record-lost",
        "csrc/core/tls/records_read.c",
        "\tif (ciphertext_absorb(self->incoming->memory) < 0 && exception == NULL)",
        "\tself->incoming->memory->window_size = 0;\n"
        "\tif (ciphertext_absorb(self->incoming->memory) < 0 && exception == NULL)",
        TLS,
    ),
    Mutant(
        "tls-read-before-what-was-written",
        "csrc/core/tls/records_read.c",
        "\treturn self->layer.seal(&self->layer) < 0 ? -1 : records_wants_data(self);\n",
        "\treturn 1;\n",
        RECORDS,
    ),
    Mutant(
        "tls-held-object-not-seen",
        "csrc/core/tls/records_write.c",
        "(self->sslobj != NULL && Py_REFCNT(self->sslobj) > SSLOBJ_REFERENCES)",
        "false",
        RECORDS,
    ),
    Mutant(
        "tls-joined-pieces-overlap",
        "csrc/core/tls/records_write.c",
        "\t\tend += size;\n",
        "",
        RECORDS,
    ),
    Mutant(
        "tls-beside-the-room-left-out",
        "csrc/core/tls/records_write.c",
        "if (unlikely(ciphertext_pending(outgoing) > 0) && !self->ssl_writing_paused &&",
        "if (unlikely(ciphertext_pending(outgoing) > SIZE_MAX - 1) &&",
        RECORDS,
    ),
    Mutant(
        "tls-room-overtakes-what-waits",
        "csrc/core/tls/ciphertext.c",
        "if (self->end == self->begin && self->room_size - self->room_used >= (size_t)size) {",
        "if (self->room_size - self->room_used >= (size_t)size) {",
        RECORDS,
    ),
    Mutant(
        "tls-bio-reads-the-window-again",
        "csrc/core/tls/ciphertext.c",
        "\t\tself->window += shown;\n",
        "",
        TLS,
    ),
    Mutant(
        "tls-bio-forgets-its-rest",
        "csrc/core/tls/ciphertext.c",
        "\tif (self->begin < self->end)\n\t\treturn;\n",
        "",
        TLS,
    ),
    # asyncio's streams.
    Mutant(
        "streams-place-is-guessed",
        "csrc/core/streams/attributes.c",
        "&key, &value) && key == name))",
        "&key, &value) && (key == name || place->position > 0)))",
        ("tests/contract/test_stream_classes.py", "-k", "its_place_elsewhere"),
    ),
    Mutant(
        "streams-patch-of-a-class-not-seen",
        "csrc/core/streams/classes.c",
        "\t              has_all(self->asyncio, self->names, self->found) &&\n",
        "",
        CLASSES,
    ),
    Mutant(
        "streams-patch-of-our-class-not-seen",
        "csrc/core/streams/classes.c",
        "\t              has_all(self->own, self->names, self->found_own) &&\n",
        "",
        CLASSES,
    ),
    Mutant(
        "streams-patch-of-an-instance-not-seen",
        "csrc/core/streams/classes.c",
        "if (unlikely(!is_usual(self, attributes)) && has_methods(self, attributes)) {",
        "if (unlikely(!is_usual(self, attributes)) && has_methods(self, attributes) && false) {",
        CLASSES,
    ),
    Mutant(
        "streams-property-not-seen",
        "csrc/core/streams/classes.c",
        "\t              has_none(self->own, self->state);",
        "\t              true;",
        CLASSES,
    ),
    # Requests, and what owns what they bring.
    Mutant(
        "request-not-held",
        "csrc/core/operations/requests.c",
        "\t\toperation_hold(self->loop, &self->operation);\n\t\treturn (PyObject *)self;",
        "\t\toperation_hold(self->loop, &self->operation);\n"
        "\t\toperation_weaken(&self->operation);\n\t\treturn (PyObject *)self;",
        REQUESTS,
    ),
    Mutant(
        "request-descriptor-is-nobodys",
        "csrc/core/operations/requests.c",
        "\t\topened_hold(self->opened, completion->result);\n",
        "\t\t(void)self;\n",
        REQUESTS,
    ),
    Mutant(
        "opened-not-closed-at-its-end",
        "csrc/core/operations/opened.c",
        "\topened_end(self);\n\tPyObject_Free(self);",
        "\tPyObject_Free(self);",
        REQUESTS,
    ),
    Mutant(
        "request-without-memory-not-told-again",
        "csrc/core/operations/requests.c",
        "self->tries++ < TRIES_MAX",
        "self->tries++ < 0",
        REQUESTS,
    ),
    Mutant(
        "request-told-again-out-of-order",
        "csrc/core/operations/requests.c",
        "\twhile (*last != NULL)\n\t\tlast = &(*last)->next_untold;\n",
        "\tself->next_untold = *last;\n",
        REQUESTS,
    ),
    Mutant(
        "request-cancelled-keeps-its-memory",
        "csrc/core/operations/requests.c",
        "\t\toperation_drop(&self->operation);\n\t\trequest_let_go(self);\n",
        "\t\toperation_drop(&self->operation);\n",
        REQUESTS,
    ),
)


def prepare() -> None:
    """A copy of what is built and tested, and built once as it is."""
    for name in COPIED:
        source, target = ROOT / name, COPY / name
        if source.is_dir():
            shutil.rmtree(target, ignore_errors=True)
            ignored = shutil.ignore_patterns("*.so", "__pycache__")
            shutil.copytree(source, target, ignore=ignored)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
    build()


def build() -> None:
    # What a mutant leaves unused is no error here.
    environment = {**os.environ, "URING_LOOP_WERROR": "", "CFLAGS": "-O1"}
    command = [sys.executable, "setup.py", "--quiet", "build_ext", "--inplace"]
    ended = subprocess.run(
        [*command, "--parallel", "2"],
        cwd=COPY,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if ended.returncode != 0:
        raise RuntimeError(f"the copy cannot be built:\n{ended.stdout[-3000:]}")


def run_tests(tests: tuple[str, ...], output: Path) -> str:
    """ "passed", or how they ended."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"]
    command += ["--timeout", "60", *tests]
    environment = {**os.environ, "PYTHONPATH": str(COPY)}
    with output.open("w") as said:
        try:
            ended = subprocess.run(
                command,
                cwd=COPY,
                env=environment,
                stdout=said,
                stderr=subprocess.STDOUT,
                timeout=SECONDS,
            )
        except subprocess.TimeoutExpired:
            return "hung"
    if ended.returncode == 0:
        return "passed"
    if ended.returncode == 1:
        return "failed"
    if ended.returncode < 0:
        return f"crashed ({-ended.returncode})"
    # Nothing was run: the mutant has proved nothing.
    raise RuntimeError(f"pytest ended with {ended.returncode}; see {output}")


def try_one(mutant: Mutant) -> str:
    path = COPY / mutant.file
    text = path.read_text()
    if text.count(mutant.old) != 1:
        raise RuntimeError(f"{mutant.name}: {mutant.file} has changed; the mutant must be too")
    path.write_text(text.replace(mutant.old, mutant.new))
    try:
        build()
        return run_tests(mutant.tests, BUILD / f"{mutant.name}.txt")
    finally:
        path.write_text(text)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*")
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args(arguments)
    known = {mutant.name: mutant for mutant in MUTANTS}
    if options.list:
        for mutant in MUTANTS:
            print(f"{mutant.name:36} {mutant.file}")
        return 0
    chosen = [known[name] for name in options.names] or list(MUTANTS)
    prepare()
    survived = 0
    for mutant in chosen:
        start = time.monotonic()
        how = try_one(mutant)
        survived += how == "passed"
        verdict = "SURVIVED" if how == "passed" else f"killed: {how}"
        print(f"{mutant.name:36} {verdict:24} {time.monotonic() - start:5.0f} s", flush=True)
    print(f"mutants {len(chosen)}, killed {len(chosen) - survived}, survived {survived}")
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main())
