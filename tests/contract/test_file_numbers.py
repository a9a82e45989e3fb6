"""Every number that a file or a path is given, out of range too: io's and os's outcome."""

import os
import warnings

import pytest
from harness import run

import uring_loop
from uring_loop import paths

NUMBERS = [
    2**31 - 1, 2**31, 2**32, 2**32 + 1, 2**63 - 1, 2**63, 2**64 - 1, 2**64, 2**64 + 3,
    -1, -2, -100, -(2**31), -(2**31) - 1, -(2**63), -(2**63) - 1, -(2**64), 1.5, "1", None,
]  # fmt: skip
CONTENT = b"0123456789\n" * 10


@pytest.fixture
def files(tmp_path):
    """Two files of the same content: ours and io's."""
    made = tmp_path / "ours", tmp_path / "theirs"
    for path in made:
        path.write_bytes(CONTENT)
    return made


def is_size(number):
    return isinstance(number, int) and 2**20 < number < 2**63


def outcome_of(error):
    return type(error), getattr(error, "errno", None)


async def awaited(call, *arguments):
    try:
        return await call(*arguments)
    except (OSError, ValueError, TypeError, OverflowError) as error:
        return outcome_of(error)


def called(call, *arguments):
    try:
        return call(*arguments)
    except (OSError, ValueError, TypeError, OverflowError) as error:
        return outcome_of(error)


@pytest.mark.parametrize("buffering", [-1, 0])
@pytest.mark.parametrize("name", ["read", "readline", "readlines", "read1", "peek", "seek"])
def test_file_of_bytes(loop, files, name, buffering):
    async def main():
        for number in NUMBERS:
            async with uring_loop.open(files[0], "r+b", buffering) as file:
                found = await awaited(getattr(file, name), number)
            with open(files[1], "r+b", buffering) as other:
                if not hasattr(other, name):
                    break
                if is_size(number) and name in ("read", "read1"):
                    # io makes such a buffer, or cannot; ours makes none for so small a file.
                    expected = CONTENT
                else:
                    expected = called(getattr(other, name), number)
            if name == "peek" and isinstance(found, bytes):
                found = expected
            assert found == expected, number

    run(loop, main())


@pytest.mark.parametrize("name", ["read", "readline", "readlines"])
def test_file_of_text(loop, files, name):
    async def main():
        for number in NUMBERS:
            if number is None and name == "readline":
                continue  # ours takes it, as files of bytes do
            async with uring_loop.open(files[0], "r+", encoding="utf-8") as file:
                found = await awaited(getattr(file, name), number)
            with open(files[1], "r+", encoding="utf-8") as other:
                if is_size(number) and name == "read":
                    expected = CONTENT.decode()
                else:
                    expected = called(getattr(other, name), number)
            assert found == expected, number

    run(loop, main())


@pytest.mark.parametrize("options", [{"mode": "r+b"}, {"mode": "r+b", "buffering": 0},
                                     {"mode": "r+", "encoding": "utf-8"}, {"mode": "rb"}])
def test_truncate_keeps_what_it_must_not_cut(loop, files, options):
    async def main():
        for number in NUMBERS:
            if is_size(number):
                continue
            async with uring_loop.open(files[0], **options) as file:
                found = await awaited(file.truncate, number)
            with open(files[1], **options) as other:
                expected = called(other.truncate, number)
            assert found == expected, number
            assert files[0].read_bytes() == files[1].read_bytes(), number
            for path in files:
                path.write_bytes(CONTENT)

    run(loop, main())


def test_offsets_of_pread_and_pwrite(loop, files):
    async def main():
        async with uring_loop.open(files[0], "r+b") as file:
            with open(files[1], "r+b") as other:
                for number in NUMBERS:
                    found = await awaited(file.pread, 1, number)
                    assert found == called(os.pread, other.fileno(), 1, number), number
                    if not is_size(number):
                        found = await awaited(file.pread, number, 0)
                        assert found == called(os.pread, other.fileno(), number, 0), number
                        found = await awaited(file.pwrite, b"x", number)
                        assert found == called(os.pwrite, other.fileno(), b"x", number), number
        assert files[0].read_bytes() == files[1].read_bytes()

    run(loop, main())


def test_descriptors_and_sizes_of_paths(loop, files):
    async def main():
        with open(files[0], "r+b") as ours, open(files[1], "r+b") as theirs:
            for number in NUMBERS:
                if not is_size(number) and number is not None:
                    for name in ("ftruncate", "posix_fallocate"):
                        rest = (number,) if name == "ftruncate" else (number, 1)
                        found = await awaited(getattr(paths, name), ours.fileno(), *rest)
                        expected = called(getattr(os, name), theirs.fileno(), *rest)
                        assert found == expected, (name, number)
                    found = await awaited(paths.posix_fallocate, ours.fileno(), 0, number)
                    expected = called(os.posix_fallocate, theirs.fileno(), 0, number)
                    assert found == expected, number
                for name in ("fstat", "fsync", "fdatasync"):
                    found = await awaited(getattr(paths, name), number)
                    assert found == called(getattr(os, name), number), (name, number)
                if isinstance(number, int) and number != -1:
                    # Of -1 os.stat() says "Bad address".
                    assert await awaited(paths.stat, number) == called(os.stat, number), number
        assert files[0].read_bytes() == files[1].read_bytes()

    run(loop, main())


@pytest.mark.parametrize("given", [None, "3", 1.5, -1, 2**31])
@pytest.mark.parametrize("name", ["fsync", "fdatasync"])
def test_object_whose_fileno_is_no_descriptor_is_refused_as_os_does(loop, name, given):
    class Descriptive:
        def fileno(self):
            return given

    async def main():
        for what in (Descriptive(), given):
            found = await awaited(getattr(paths, name), what)
            assert found == called(getattr(os, name), what), what

    run(loop, main())


def test_permissions_and_directories_of_paths(loop, tmp_path):
    async def main():
        for number in NUMBERS:
            for path in (tmp_path / "none" / "x", tmp_path):
                found = await awaited(paths.mkdir, path, number)
                assert found == called(os.mkdir, path, number), number
            if number in (None, -100):
                continue  # they mean the working directory
            for name in ("mkdir", "unlink", "rmdir", "stat"):

                def at(call, number=number):
                    return lambda: call("no such directory/x", dir_fd=number)

                found = await awaited(at(getattr(paths, name)))
                assert found == called(at(getattr(os, name))), (name, number)
            for option in ("src_dir_fd", "dst_dir_fd"):

                def between(call, option=option, number=number):
                    return lambda: call("none/x", "none/y", **{option: number})

                found = await awaited(between(paths.rename))
                assert found == called(between(os.rename)), (option, number)

    run(loop, main())


def test_stat_of_a_descriptor_takes_nothing_else(loop):
    async def main():
        for options in ({"dir_fd": 1}, {"follow_symlinks": False}):
            with pytest.raises(ValueError):
                os.stat(1, **options)
            with pytest.raises(ValueError):
                await paths.stat(1, **options)

    run(loop, main())


def test_descriptors_and_buffers_of_open(loop, files):
    async def opened(number, buffering):
        file = await uring_loop.open(number, "rb", buffering, closefd=False)
        await file.close()

    def at_once(number, buffering):
        open(number, "rb", buffering, closefd=False).close()

    async def main():
        for number in NUMBERS:
            if isinstance(number, int):
                found = await awaited(opened, number, -1)
                expected = called(at_once, number, -1)
                assert found == expected, number
        descriptor = os.open(files[0], os.O_RDONLY)
        for number in NUMBERS:
            if number == 2**31 - 1:
                continue
            found = await awaited(opened, descriptor, number)
            expected = called(at_once, descriptor, number)
            if isinstance(number, int) and number < -1:
                continue
            assert found == expected, number
        os.close(descriptor)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(loop, main())


def test_request_takes_no_number_that_does_not_fit(make_loop, loop_kind):
    if loop_kind == "asyncio":
        pytest.skip("only our loops have requests")
    loop = make_loop()
    good = (22, 0, 0, 0, 0, 0)
    for field in range(6):
        for number in (2**64, 2**65 + 1, -1 if field != 1 else -(2**31) - 1):
            bad = [*good]
            bad[field] = number
            with pytest.raises(OverflowError):
                loop._request(print, None, tuple(bad))
    for field in (4, 5):
        bad = [*good]
        bad[field] = 2**32
        with pytest.raises(OverflowError):
            loop._request(print, None, tuple(bad))
    loop.close()
