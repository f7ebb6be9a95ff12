"""Every error the service raises on purpose, and the exit code it leaves with.

    StreamingError
    ├── TerminalError            exit 2   restarting cannot help
    │   ├── ConfigError                   the config file, an option or the schema
    │   ├── ModelError                    a saved model that is missing, tampered with or cannot run on a stream
    │   ├── StateError                    what the job remembers is missing or belongs to another job
    │   ├── StoreError                    the operational store refuses: wrong table, wrong column type, wrong password
    │   └── EnvironmentFailure            this machine: Java, a port, a package, task slots
    └── TransientError           exit 75  restart and replay (EX_TEMPFAIL, what supervisors retry)
        ├── BrokerUnavailable             Kafka cannot be reached
        ├── StoreUnavailable              the operational store cannot be reached
        └── LaneDied                      a lane stopped for a reason nobody has classified

A message says what happened, where, what was found, what was expected, and the next step. A bad *row* is not an
error: it is data, and goes to the rejected topic with its reason.
"""

from __future__ import annotations


class StreamingError(Exception):
    """The root of everything the service raises on purpose. Its text is meant for the person who is stuck."""

    exit_code = 1


class TerminalError(StreamingError):
    """Restarting cannot help: somebody has to change something first."""

    exit_code = 2


class ConfigError(TerminalError):
    """The configuration is wrong: names the file, the path inside it and what would be valid."""


class ModelError(TerminalError):
    """A saved model is missing, tampered with, not allowed, or cannot run on a stream."""


class StateError(TerminalError):
    """What the job remembers (checkpoint, learner state) is missing or does not belong to this job."""


class StoreError(TerminalError):
    """The operational store is reachable but refuses: table, column type, credentials."""


class EnvironmentFailure(TerminalError):
    """The machine is not fit to run the job: Java, a port, a missing package, too few task slots."""


class TransientError(StreamingError):
    """Restart and replay: nothing is lost, and the same call may succeed later."""

    exit_code = 75


class BrokerUnavailable(TransientError):
    """No Kafka broker answers at the configured address."""


class StoreUnavailable(TransientError):
    """The operational store does not answer."""


class LaneDied(TransientError):
    """A lane stopped and its cause is not one we know to be terminal."""
