"""What of CPython's asyncio tests must not run, and what must fail for now.

Each by name, as Class.method, under its reason.  The runner checks the tables:
an entry whose test passes, or does not exist, is a failure of the run.  A name
may end in `@3.12` (since that Python), `@-3.13` (only before it) or both, `@3.12-3.13`.
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
    "test_taskgroups",
    "test_tasks",
    "test_threads",
    "test_timeouts",
    "test_waitfor",
]

# Those that take more than a few seconds: not in the default run of pytest.
SLOW = ["test_ssl", "test_sslproto", "test_taskgroups", "test_tasks"]

OTHER_SELECTOR = (
    "the same tests as EPollEventLoopTests, on another selector of the standard library;"
    " our loop takes no selector"
)
QUEUES = "looks into the private queues of BaseEventLoop: _ready, _scheduled, _add_callback"
RUN_ONCE = "replaces, or counts the calls of, the private methods that BaseEventLoop is made of"
MOCK_SELECTOR = "asks what was called on a mock in place of the loop's private selector"
HOOKS = "calls private hooks of BaseEventLoop for subclasses, such as _make_socket_transport"
ACCEPT = "calls the private _accept_connection of BaseSelectorEventLoop with a mock socket"
MOCK_SOCKET = (
    "runs a transport or a server on a mock socket, which has no descriptor, through the private"
    " _add_reader, _start_serving or _make_ssl_transport of the selector loop"
)
SERVER_ATTACH = (
    "counts clients by calling the private Server._attach() and _detach() as they were in 3.12;"
    " since 3.13 the same tests use real connections, and those run"
)

# Module -> reason -> tests.
EXCLUDED = {
    "test_base_events": {
        QUEUES: [
            "BaseEventLoopTests.test__add_callback_cancelled_handle",
            "BaseEventLoopTests.test__add_callback_handle",
            "BaseEventLoopTests.test__run_once_cancelled_event_cleanup",
            "BaseEventLoopTests.test__run_once_schedule_handle",
            "BaseEventLoopTests.test_call_later",
            "BaseEventLoopTests.test_call_soon",
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
            "BaseEventLoopWithSelectorTests.test_create_connection_ip_addr",
            "BaseEventLoopWithSelectorTests.test_create_connection_ipv6_scope",
            "BaseEventLoopWithSelectorTests.test_create_connection_no_inet_pton",
            "BaseEventLoopWithSelectorTests.test_create_connection_service_name",
            "BaseEventLoopWithSelectorTests.test_create_connection_ssl_server_hostname_default",
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
}

DATAGRAMS = "not built yet: datagram endpoints"
PIPES = "not built yet: pipes"
SUBPROCESSES = "not built yet: subprocesses"

# As EXCLUDED.  These run, and must fail with NotImplementedError.
EXPECTED_FAILURES = {
    "test_base_events": {
        DATAGRAMS: [
            "BaseEventLoopWithSelectorTests.test_create_datagram_endpoint_addr_error",
            "BaseEventLoopWithSelectorTests.test_create_datagram_endpoint_allow_broadcast",
            "BaseEventLoopWithSelectorTests.test_create_datagram_endpoint_cant_bind",
            "BaseEventLoopWithSelectorTests.test_create_datagram_endpoint_connect_err",
            "BaseEventLoopWithSelectorTests.test_create_datagram_endpoint_existing_sock_unix",
            "BaseEventLoopWithSelectorTests.test_create_datagram_endpoint_ip_addr",
            "BaseEventLoopWithSelectorTests.test_create_datagram_endpoint_no_addrinfo",
            "BaseEventLoopWithSelectorTests.test_create_datagram_endpoint_no_matching_family",
            "BaseEventLoopWithSelectorTests.test_create_datagram_endpoint_noaddr_nofamily",
            "BaseEventLoopWithSelectorTests.test_create_datagram_endpoint_nosoreuseport",
            "BaseEventLoopWithSelectorTests.test_create_datagram_endpoint_setblk_err",
            "BaseEventLoopWithSelectorTests.test_create_datagram_endpoint_sock",
            "BaseEventLoopWithSelectorTests.test_create_datagram_endpoint_sock_sockopts",
            "BaseEventLoopWithSelectorTests.test_create_datagram_endpoint_sock_unix",
            "BaseEventLoopWithSelectorTests.test_create_datagram_endpoint_socket_err",
            "BaseEventLoopWithSelectorTests.test_create_datagram_endpoint_sockopts",
            "BaseEventLoopWithSelectorTests.test_create_datagram_endpoint_wrong_sock",
        ],
    },
    "test_events": {
        DATAGRAMS: [
            "EPollEventLoopTests.test_create_datagram_endpoint",
            "EPollEventLoopTests.test_create_datagram_endpoint_ipv6",
            "EPollEventLoopTests.test_create_datagram_endpoint_sock",
            "EPollEventLoopTests.test_datagram_send_to_non_listening_address@3.13",
        ],
        PIPES: [
            "EPollEventLoopTests.test_bidirectional_pty",
            "EPollEventLoopTests.test_read_pipe",
            "EPollEventLoopTests.test_read_pty_output",
            "EPollEventLoopTests.test_unclosed_pipe_transport",
            "EPollEventLoopTests.test_write_pipe",
            "EPollEventLoopTests.test_write_pipe_disconnect_on_close",
            "EPollEventLoopTests.test_write_pty",
        ],
        SUBPROCESSES: [
            "EPollEventLoopTests.test_subprocess_close_after_finish",
            "EPollEventLoopTests.test_subprocess_close_client_stream",
            "EPollEventLoopTests.test_subprocess_exec",
            "EPollEventLoopTests.test_subprocess_exec_invalid_args",
            "EPollEventLoopTests.test_subprocess_exitcode",
            "EPollEventLoopTests.test_subprocess_interactive",
            "EPollEventLoopTests.test_subprocess_kill",
            "EPollEventLoopTests.test_subprocess_send_signal",
            "EPollEventLoopTests.test_subprocess_shell",
            "EPollEventLoopTests.test_subprocess_shell_invalid_args",
            "EPollEventLoopTests.test_subprocess_stderr",
            "EPollEventLoopTests.test_subprocess_stderr_redirect_to_stdout",
            "EPollEventLoopTests.test_subprocess_terminate",
            "EPollEventLoopTests.test_subprocess_wait_no_same_group",
        ],
    },
    "test_sendfile": {
        DATAGRAMS: ["EPollEventLoopTests.test_sendfile_not_supported"],
    },
    "test_streams": {
        PIPES: ["StreamTests.test_read_all_from_pipe_reader"],
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
