"""What an error of the system says to a user: which path, what is wrong with it, and what to do."""

import errno
import os

_FULL = "Free space there, or use a folder on another disk"
_RIGHTS = "Change the rights of the file or folder, or use another one"
_GONE = "Was it removed, or its disk taken away? Bring it back, or correct the path"
_PROCESSES = "Close other programs, or raise the limits of processes and memory (ulimit -u, ulimit -v)"
_FILES = "Raise the limit of open files (ulimit -n)"
_REMEDIES = {
    "ENOSPC": _FULL,
    "EDQUOT": _FULL,
    "EFBIG": "The file system or ulimit -f allows no file of this size. Use a folder on another disk",
    "EROFS": "Use a folder on another disk, or mount this one with the right to write",
    "EACCES": _RIGHTS,
    "EPERM": _RIGHTS,
    "EIO": "The disk, or the connection to it, fails. Check it, or use a folder on another disk",
    "ENOENT": _GONE,
    "ENODEV": _GONE,
    "ENXIO": _GONE,
    "ESTALE": _GONE,
    "ENOTCONN": _GONE,
    "ENOTDIR": "Part of the path is a file. Use another path",
    "EISDIR": "A folder has the name that a file needs. Use another path",
    "EEXIST": "Something else has this name. Use another path",
    "ENOTEMPTY": "Another program writes there. End it, or use another path",
    "ELOOP": "A symbolic link leads back to itself. Use another path",
    "ENAMETOOLONG": "Use a shorter path",
    "EMFILE": _FILES,
    "ENFILE": _FILES,
    "EAGAIN": _PROCESSES,
    "ENOMEM": _PROCESSES,
}
_BY_NUMBER = {getattr(errno, name): text for name, text in _REMEDIES.items() if hasattr(errno, name)}


def problem_of_the_system(error: Exception) -> str | None:
    """The message for an error whose cause is a disk, rights or a limit of this machine; None for others."""
    if isinstance(error, MemoryError):
        return f"The memory is used up. {_PROCESSES}."
    if isinstance(error, RuntimeError) and "can't start new thread" in str(error):
        return f"The system refused to start a thread. {_PROCESSES}."
    return explain(error) if isinstance(error, OSError) and error.errno in _BY_NUMBER else None


def explain(error: OSError) -> str:
    """One or two sentences: path, cause and remedy."""
    names = [
        name for name in (error.filename, error.filename2) if isinstance(name, str | bytes | os.PathLike)
    ]
    where = " and ".join(map(os.fsdecode, names)) or "The system refused a request"
    remedy = _BY_NUMBER.get(error.errno or 0)
    return f"{where}: {error.strerror}." + (f" {remedy}." if remedy else "")
