"""The error codes of MongoDB by category, and which of them are no defect of the service.

The source of CATEGORIES is MongoDB's own table, src/mongo/base/error_codes.yml (release 8.2). To add a code, copy its
categories from there. A code that has none there belongs to one of the sets below CATEGORIES. A code in no set means
that the service has sent a malformed command.
"""

from collections.abc import Mapping

CATEGORIES: Mapping[str, frozenset[int]] = {
    "CancellationError": frozenset((90, 91, 310, 312, 333, 355, 11600, 46841)),
    "CloseConnectionError": frozenset((303, 354, 372, 398)),
    "CursorInvalidatedError": frozenset((43, 96, 175, 237, 314)),
    "ExceededTimeLimitError": frozenset((50, 202, 262, 290, 407)),
    "Interruption": frozenset((
        24, 50, 237, 262, 279, 281, 282, 290, 355, 453, 11600, 11601, 11602, 46841, 91331, 10045600,
    )),
    "NeedRetargettingError": frozenset((150, 13388)),
    "NetworkError": frozenset((6, 7, 89, 317, 384, 9001)),
    "NetworkTimeoutError": frozenset((89, 202)),
    "NonResumableChangeStreamError": frozenset((280, 286)),
    "NotPrimaryError": frozenset((189, 10107, 11602, 13435, 13436)),
    "RetriableError": frozenset((
        6, 7, 89, 91, 134, 189, 262, 317, 358, 384, 402, 406, 407, 412, 453, 462, 9001, 10107, 11600, 11602, 13435,
        13436, 50915, 91331, 10045600,
    )),
    "ShutdownError": frozenset((91, 333, 11600)),
    "SnapshotError": frozenset((239, 246, 250, 272)),
    "StaleShardVersionError": frozenset((150, 13388)),
    "SystemOverloadedError": frozenset((433, 449, 450, 462)),
    "WriteConcernError": frozenset((64, 75, 79, 100)),
}  # fmt: skip
"""The categories of codes that a client can get, by their names in MongoDB."""

TRANSIENT_CODES = frozenset((
    1, 8, 46, 70, 83, 94, 107, 117, 125, 133, 136, 143, 145, 149, 172, 173, 174, 187, 190, 194, 203, 206, 208, 209, 215,
    216, 222, 234, 249, 251, 261, 276, 301, 308, 338, 342, 343, 346, 348, 365, 442, 10058, 12586, 12587, 28799, 56846,
))  # fmt: skip
"""Codes without a category that report the state of the database, from InternalError to ConfigServerUnreachable."""

CONFLICT_CODES = frozenset((24, 112))
"""LockTimeout and WriteConflict: another write of the same record was faster."""

EXHAUSTED_CODES = CATEGORIES["SystemOverloadedError"] | {38, 39, 146, 264, 292, 402, 14031, 16945, 17261}
"""The database is short of memory, disk space, files or capacity."""

MEMORY_CODES = frozenset((146, 292, 16945, 17261))
"""A query needs more memory than the database allows."""

REFUSAL_CODES = frozenset(
    (11, 13, 18, 31, 33, 76, 123, 140, 141, 148, 214, 230, 231, 240, 323, 334, 371, 391, 392, 404, 8000)
)
"""Credentials, rights, certificates, names and server options, which an operator has to correct."""

UNCONFIRMED_CODES = CATEGORIES["WriteConcernError"]
"""A write was done, but the database has not confirmed that a majority has it."""

CURSOR_CODES = CATEGORIES["CursorInvalidatedError"] | {136}
"""The database has ended a query whose results were still being read."""

TIMEOUT_CODES = CATEGORIES["ExceededTimeLimitError"] - CATEGORIES["RetriableError"]
"""The command's own time limit has passed."""

UNAVAILABLE_CODES = TRANSIENT_CODES.union(*CATEGORIES.values()) - TIMEOUT_CODES
"""All other codes that are no defect of the service."""

CHANGE_STREAM_CODES = frozenset((59, 115, 40324, 40573))
"""The deployment has no change streams: unknown command or stage, or not a replica set."""

RETRYABLE_LABELS = (
    "RetryableWriteError", "RetryableError", "ResumableChangeStreamError", "SystemOverloadedError",
    "TransientTransactionError",
)  # fmt: skip
"""Labels by which the server or the driver marks a failure that a repetition may cure."""
