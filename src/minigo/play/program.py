"""A GTP program as a child process: commands in, answers out, every failure in one line."""

import contextlib
import os
import queue
import re
import shlex
import signal
import subprocess
import tempfile
import threading
import time

ANSWER_TIMEOUT_S = 300.0  # a program that is silent for so long has crashed
CLOSE_TIMEOUT_S = 2.0  # from `quit` to SIGKILL
_ANSWER = re.compile(rb"^([=?])[0-9]*(.*?)\n\n", re.MULTILINE | re.DOTALL)


class ProgramError(ValueError):
    """A GTP program died, was silent, or refused a command: what it did, in one line."""


class GtpProgram:
    """A GTP engine in a process of its own. Every failure is a ProgramError."""

    def __init__(self, command: str, timeout_s: float = ANSWER_TIMEOUT_S) -> None:
        self.timeout_s, self._asked, self._buffer = timeout_s, "", b""
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": self._errors}
        words = command if os.name == "nt" else shlex.split(command)
        try:  # in a session of its own: Ctrl-C is for us, and close() ends all that it started
            self._process = subprocess.Popen(words, start_new_session=True, **pipes)
        except OSError as error:
            self._errors.close()
            raise ProgramError(f"doesn't start: {error.strerror}") from None
        self._chunks = queue.SimpleQueue()  # of what it says; at its end b""
        threading.Thread(target=self._read, daemon=True).start()
        try:
            self.commands = frozenset(self.ask("list_commands").split())
        except ProgramError:
            self.close()
            raise

    def ask(self, line: str) -> str:
        """Send a command and return the text of its answer."""
        self.send(line)
        return self.receive()

    def send(self, line: str) -> None:
        """Send a command; whoever receives its answer learns if the program is dead."""
        self._asked = line
        with contextlib.suppress(OSError):
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()

    def receive(self) -> str:
        """Return the text of the answer to the command sent last."""
        deadline = time.monotonic() + self.timeout_s
        while not (answer := _ANSWER.search(self._buffer)):  # after chatter, if there is any
            try:
                chunk = self._chunks.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                silence = f"gave no answer to {self._asked!r} in {self.timeout_s:g} s"
                raise ProgramError(silence) from None
            if not chunk:
                self._chunks.put(b"")
                raise ProgramError(self._death())
            self._buffer += chunk.replace(b"\r", b"")
        self._buffer = self._buffer[answer.end() :]
        text = answer[2].decode("utf-8", "replace").strip()
        if answer[1] == b"?":
            raise ProgramError(f"refused {self._asked!r}: {' '.join(text.split())}")
        return text

    def _read(self) -> None:  # by a thread: Windows can't wait for a pipe
        with self._process.stdout as stdout:
            while chunk := stdout.read1(65536):
                self._chunks.put(chunk)
        self._chunks.put(b"")

    def _death(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(CLOSE_TIMEOUT_S)
        self._errors.seek(max(0, self._errors.seek(0, os.SEEK_END) - 4096))
        last = self._errors.read().decode("utf-8", "replace").strip().split("\n")[-1].strip()
        status = f"died at {self._asked!r}, exit status {self._process.returncode}"
        return f"{status}: {last}" if last else status

    def close(self) -> None:
        """Ask it to quit; kill it, and what it started, if it doesn't."""
        with contextlib.suppress(OSError, ValueError):  # it is dead, or closed
            self._process.stdin.write(b"quit\n")
            self._process.stdin.close()
        try:
            self._process.wait(CLOSE_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            if hasattr(os, "killpg"):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.kill()
            self._process.wait()
        self._errors.close()
