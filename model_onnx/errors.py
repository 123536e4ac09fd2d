"""The one error tree. Every message says what was got, what was expected and what to do.

ScanscribeError
├── UsageError            exit code 2: the caller asked for something that cannot be
│   ├── ConfigError       a config.json, schema or option that is wrong or not supported
│   ├── CheckpointError   a checkpoint that cannot be exported (names the tensor or file)
│   └── ConstraintError   a grammar or schema that cannot be enforced (names the keyword)
├── ModelError            exit code 5: the model or the runtime is not available
│   ├── BundleError       a bundle that is missing, incomplete or damaged
│   └── RuntimeUnavailableError  a provider or library that is not there
├── EngineClosedError     a request to an engine that was closed
├── RequestError          a request that the engine cannot serve (too long, no media graph ...)
├── InputError            one input file that cannot be read; carries a stable `reason`
└── OutputError           exit code 2: results that cannot be written (disk full, exists, locked)
"""


class ScanscribeError(Exception):
    """Base of all errors raised on purpose. `exit_code` is what the command line returns."""

    exit_code = 1


class UsageError(ScanscribeError):
    exit_code = 2


class ConfigError(UsageError):
    pass


class CheckpointError(UsageError):
    pass


class ConstraintError(UsageError):
    pass


class ModelError(ScanscribeError):
    exit_code = 5


class BundleError(ModelError):
    pass


class RuntimeUnavailableError(ModelError):
    pass


class EngineClosedError(ScanscribeError):
    pass


class RequestError(ScanscribeError):
    pass


class InputError(ScanscribeError):
    """One input that cannot be turned into a record.

    reason: a stable word for the manifest, e.g. `unsupported`, `encrypted`, `too_large`, `timeout`.
    """

    def __init__(self, message: str, *, reason: str) -> None:
        super().__init__(message)
        self.reason = reason

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild_input_error, (str(self), self.reason)


def _rebuild_input_error(message: str, reason: str) -> InputError:
    """Errors cross process borders by pickle, which cannot fill a keyword-only argument."""
    return InputError(message, reason=reason)


class OutputError(ScanscribeError):
    exit_code = 2
