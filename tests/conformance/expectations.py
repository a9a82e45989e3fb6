"""What of CPython's asyncio tests must not run.

Each by name, as Class.method, under its reason.  An entry without a test is a
failure of the run.  A name may end in `@3.12` (since that Python), `@-3.13`
(only before it) or both, `@3.12-3.13`.
"""

import sys

MODULES = [
    "test_base_events",
    "test_buffered_proto",
    "test_context",
    "test_eager_task_factory",
    "test_events",
    "test_futures",
    "test_locks",
    "test_pep492",
    "test_queues",
    "test_runners",
    "test_sendfile",
    "test_server",
    "test_sock_lowlevel",
    "test_ssl",
    "test_sslproto",
    "test_streams",
    "test_subprocess",
    "test_taskgroups",
    "test_tasks",
    "test_threads",
    "test_timeouts",
    "test_unix_events",
    "test_waitfor",
]

# Those that take more than a few seconds: not in the default run of pytest.
SLOW = ["test_ssl", "test_subprocess", "test_taskgroups", "test_tasks"]

OTHER_SELECTOR = (
    "the same tests as EPollEventLoopTests, on another selector of the standard library;"
    " our loop takes no selector"
)
QUEUES = (
    "puts timers of its own into the private _scheduled of BaseEventLoop, or counts the cancelled"
    " ones that are still in it; ours leave at once"
)
RUN_ONCE = "replaces, or counts the calls of, the private methods that BaseEventLoop is made of"
MOCK_SELECTOR = "asks what was called on a mock in place of the loop's private selector"
HOOKS = "calls private hooks of BaseEventLoop for subclasses, such as _make_socket_transport"
ACCEPT = "calls the private _accept_connection of BaseSelectorEventLoop with a mock socket"
MOCK_SOCKET = (
    "runs a transport or a server on a mock socket, which has no descriptor, through the private"
    " _add_reader, _start_serving or _make_ssl_transport of the selector loop"
)
PRIVATE_SOCKET = (
    "puts a wrapper in place of the private _sock of the selector transport when its private"
    " _read_ready_cb says that it is closed"
)
SERVER_ATTACH = (
    "counts clients by calling the private Server._attach() and _detach() as they were in 3.12;"
    " since 3.13 the same tests use real connections, and those run"
)
SIGNAL_MODULE = (
    "compares the calls on a mock in place of the signal module, or looks into the private"
    " _signal_handlers, _handle_signal and _check_signal of the selector loop"
)
SENDFILE_NATIVE = "calls the private _sock_sendfile_native and its _impl with mocks"
UNIX_SOCKET_MODULE = "puts a mock in place of the socket module that unix_events imported"
PIPE_CLASSES = (
    "about the private pipe transports of the standard library themselves, on a loop of the"
    " tests' own; ours has transports of its own"
)
WATCHER_CLASSES = "about the standard library's child watchers, which our loop does without"
WATCHER_INACTIVE = "a child watcher that is not active stops no process here: none is asked"
WATCHER_ORDER = "passes only behind the test with the inactive watcher, on stock asyncio too"

# Module -> reason -> tests.
EXCLUDED = {
    "test_base_events": {
        QUEUES: [
            "BaseEventLoopTests.test__run_once_cancelled_event_cleanup",
            "BaseEventLoopTests.test__run_once_schedule_handle",
        ],
        RUN_ONCE: [
            "BaseEventLoopTests.test__run_once",
            "BaseEventLoopTests.test_custom_run_forever_integration@3.13",
        ],
        MOCK_SELECTOR: [
            "BaseEventLoopTests.test_run_forever_pre_stopped",
            "BaseEventLoopTests.test_single_selecter_event_callback_after_stopping",
        ],
        HOOKS: ["BaseEventLoopTests.test_not_implemented"],
        ACCEPT: [
            "BaseEventLoopWithSelectorTests.test_accept_connection_exception",
            "BaseEventLoopWithSelectorTests.test_accept_connection_retry",
        ],
        MOCK_SOCKET: [
            "BaseEventLoopTests.test_create_connection_happy_eyeballs@3.15",
            "BaseEventLoopTests.test_create_connection_happy_eyeballs_ipv4_only@3.15",
            "BaseEventLoopWithSelectorTests.test_create_connection_ip_addr",
            "BaseEventLoopWithSelectorTests.test_create_connection_ipv6_scope",
            "BaseEventLoopWithSelectorTests.test_create_connection_no_inet_pton",
            "BaseEventLoopWithSelectorTests.test_create_connection_service_name",
            "BaseEventLoopWithSelectorTests.test_create_connection_ssl_server_hostname_default",
            "BaseEventLoopWithSelectorTests.test_create_datagram_endpoint_ip_addr",
            "BaseEventLoopWithSelectorTests.test_create_server_soreuseport_only_defined",
        ],
    },
    "test_events": {
        OTHER_SELECTOR: ["PollEventLoopTests.*", "SelectEventLoopTests.*"],
        RUN_ONCE: ["EPollEventLoopTests.test_timeout_rounding"],
        MOCK_SOCKET: [
            "EPollEventLoopTests.test_create_server_multiple_hosts_ipv4",
            "EPollEventLoopTests.test_create_server_multiple_hosts_ipv6",
        ],
    },
    "test_server": {
        SERVER_ATTACH: [
            "TestServer2.test_wait_closed_basic@3.12-3.13",
            "TestServer2.test_wait_closed_race@3.12-3.13",
        ],
    },
    "test_sendfile": {
        OTHER_SELECTOR: ["PollEventLoopTests.*", "SelectEventLoopTests.*"],
    },
    "test_sock_lowlevel": {
        OTHER_SELECTOR: ["PollEventLoopTests.*", "SelectEventLoopTests.*"],
    },
    "test_ssl": {
        PRIVATE_SOCKET: [
            "TestSSL.test_remote_shutdown_receives_trailing_data_on_slow_socket@3.14"
        ],
    },
    "test_sslproto": {
        MOCK_SOCKET: ["SslProtoHandshakeTests.test_connection_lost_when_busy@3.14"],
    },
    "test_subprocess": {
        WATCHER_CLASSES: [
            "SubprocessPidfdWatcherTests.test_watcher_implementation@3.14",
            "SubprocessThreadedWatcherTests.test_pid_not_reaped_before_exit_published@3.14",
            "SubprocessThreadedWatcherTests.test_watcher_implementation@3.14",
        ],
        WATCHER_INACTIVE: [
            "GenericWatcherTests.test_create_subprocess_fails_with_inactive_watcher@-3.14",
        ],
        WATCHER_ORDER: ["GenericWatcherTests.test_create_subprocess_with_pidfd@3.12-3.13"],
    },
    "test_unix_events": {
        SIGNAL_MODULE: [
            "SelectorEventLoopSignalTests.test_add_signal_handler",
            "SelectorEventLoopSignalTests.test_add_signal_handler_install_error",
            "SelectorEventLoopSignalTests.test_add_signal_handler_install_error2",
            "SelectorEventLoopSignalTests.test_add_signal_handler_install_error3",
            "SelectorEventLoopSignalTests.test_add_signal_handler_setup_error",
            "SelectorEventLoopSignalTests.test_check_signal",
            "SelectorEventLoopSignalTests.test_close",
            "SelectorEventLoopSignalTests.test_close_on_finalizing",
            "SelectorEventLoopSignalTests.test_handle_signal_cancelled_handler",
            "SelectorEventLoopSignalTests.test_handle_signal_no_handler",
            "SelectorEventLoopSignalTests.test_remove_signal_handler",
            "SelectorEventLoopSignalTests.test_remove_signal_handler_2",
            "SelectorEventLoopSignalTests.test_remove_signal_handler_error",
            "SelectorEventLoopSignalTests.test_remove_signal_handler_error2",
        ],
        SENDFILE_NATIVE: [
            "SelectorEventLoopUnixSockSendfileTests.test_sock_sendfile_blocking_error",
            "SelectorEventLoopUnixSockSendfileTests.test_sock_sendfile_cancel1",
            "SelectorEventLoopUnixSockSendfileTests.test_sock_sendfile_cancel2",
            "SelectorEventLoopUnixSockSendfileTests.test_sock_sendfile_exception",
            "SelectorEventLoopUnixSockSendfileTests.test_sock_sendfile_iobuffer",
            "SelectorEventLoopUnixSockSendfileTests.test_sock_sendfile_not_a_file",
            "SelectorEventLoopUnixSockSendfileTests.test_sock_sendfile_not_available",
            "SelectorEventLoopUnixSockSendfileTests.test_sock_sendfile_not_regular_file",
            "SelectorEventLoopUnixSockSendfileTests.test_sock_sendfile_os_error_first_call",
            "SelectorEventLoopUnixSockSendfileTests.test_sock_sendfile_os_error_next_call",
        ],
        UNIX_SOCKET_MODULE: ["SelectorEventLoopUnixSocketTests.test_create_unix_server_bind_error"],
        PIPE_CLASSES: ["UnixReadPipeTransportTests.*", "UnixWritePipeTransportTests.*"],
        WATCHER_CLASSES: [
            "AbstractChildWatcherTests.*@-3.14",
            "BaseChildWatcherTests.*@-3.14",
            "FastChildWatcherTests.*@-3.14",
            "SafeChildWatcherTests.*@-3.14",
            "PidfdChildWatcherTests.*@3.15",
        ],
    },
}


def entries(table, module):
    """Test (or Class.*) -> reason, of the running Python."""
    found = {}
    for reason, names in table.get(module, {}).items():
        for entry in names:
            name, _, bound = entry.partition("@")
            if _holds(bound):
                found[name] = reason
    return found


def _holds(bound):
    since, _, before = bound.partition("-")
    return _version(since, (0,)) <= sys.version_info[:2] < _version(before, (99,))


def _version(text, default):
    return tuple(int(part) for part in text.split(".")) if text else default
