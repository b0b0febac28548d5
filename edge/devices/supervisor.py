"""Look after the runner of a file on a board: receive files, pass requests on, and leave nothing behind.

`keras_vit.edge.devices.ssh` sends this script over the standard input of `ssh` to the board's Python, which executes
it. It needs only the standard library. Messages in both directions are lines of JSON; a message with "bytes" is
followed by that many bytes.

    {"command": "put", "path": NAME, "bytes": N}                  -> path: where the file is
    {"command": "start", "python": PATH or null, "module": NAME}  -> (starts the runner)
    {"command": "get", "path": PATH}                              -> bytes: the size, and the content
    {"command": ..., "limit_s": SECONDS}                          -> the answer of the runner

The files are in a temporary folder of their own. When standard input ends, because the other side is done or because
the connection is lost, the script ends the runner, even one that is busy, and removes the folder. It does the same if
no request arrives for as long as `IDLE_S`, so that a connection that is lost without a sign leaves nothing either.
"""

import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading

# The first answer begins with this word, because the login shell of a board may print a greeting before it.
GREETING = "keras-vit-board "
IDLE_S = 300.0


class Supervisor:
    """The temporary folder, the runner, and the requests that have come in."""

    def __init__(self, requests, answers):
        self._requests, self._answers = requests, answers
        self._events = queue.Queue()
        self._folder = self._child = self._log = None

    def serve(self):
        """Answer requests until there are no more."""
        facts = {"python": ".".join(map(str, sys.version_info[:3])), "machine": os.uname().machine, "pid": os.getpid()}
        self._answers.write(GREETING.encode() + json.dumps(facts).encode() + b"\n")
        self._answers.flush()
        threading.Thread(target=self._read_requests, daemon=True).start()
        try:
            while True:
                kind, message, content = self._events.get(timeout=IDLE_S)
                if kind == "end":
                    return
                if kind == "request" and not self._answer(message, content):
                    return
        except (queue.Empty, BrokenPipeError):
            return
        finally:
            self._stop()

    def _read_requests(self):
        try:
            for line in self._requests:
                message = json.loads(line.decode())
                size = message.pop("bytes", 0)
                content = self._requests.read(size)
                if len(content) < size:
                    break
                self._events.put(("request", message, content))
        except (OSError, ValueError):
            pass
        self._events.put(("end", None, None))

    def _read_answers(self, child):
        for line in child.stdout:
            self._events.put(("line", child, line))
        self._events.put(("line", child, b""))

    def _answer(self, message, content):
        """Answer one request. Return false if the other side is gone."""
        command = message.pop("command")
        try:
            if command == "put":
                return self._say({"path": self._put(message["path"], content)})
            if command == "get":
                with open(message["path"], "rb") as file:
                    content = file.read()
                return self._say({"bytes": len(content)}, content)
            if command == "start":
                self._start(message["python"] or sys.executable, message["module"])
                return self._say({})
        except OSError as error:
            return self._say({"error": str(error), "kind": type(error).__name__, "errno": error.errno})
        return self._pass_on(dict(message, command=command))

    def _put(self, name, content):
        if self._folder is None:
            self._folder = tempfile.mkdtemp(prefix="keras-vit-")
        path = os.path.join(self._folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(content)
        return path

    def _start(self, python, module):
        self._log = open(os.path.join(self._folder, "log"), "w+b")  # noqa: SIM115, it is open as long as the runner runs
        self._child = subprocess.Popen(
            [python, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            cwd=self._folder,
            env=dict(os.environ, TMPDIR=self._folder),  # Libraries leave files behind.
        )
        threading.Thread(target=self._read_answers, args=(self._child,), daemon=True).start()

    def _pass_on(self, message):
        limit = message.pop("limit_s", None)
        try:
            self._child.stdin.write(json.dumps(message).encode() + b"\n")
            self._child.stdin.flush()
        except OSError:  # The runner has ended.
            return self._say(self._how_it_ended())
        while True:
            try:
                kind, child, line = self._events.get(timeout=limit)
            except queue.Empty:
                self._end_child()
                return self._say({"error": f"no answer within {limit:g} s", "kind": "TimeoutError"})
            if kind == "end":
                return False
            if kind == "line" and child is self._child:
                return self._say(json.loads(line.decode())) if line else self._say(self._how_it_ended())

    def _how_it_ended(self):
        code = self._child.wait()
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        return {"error": lines[-1] if lines else "", "kind": "Crash", "code": code}

    def _say(self, message, content=b""):
        self._answers.write(json.dumps(message).encode() + b"\n" + content)
        self._answers.flush()
        return True

    def _end_child(self):
        if self._child is not None and self._child.poll() is None:
            self._child.kill()
            self._child.wait()

    def _stop(self):
        self._end_child()
        if self._log is not None:
            self._log.close()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


def main():
    """Serve the requests on standard input."""

    def stop(*_):
        raise SystemExit

    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, stop)
    try:
        Supervisor(sys.stdin.buffer, sys.stdout.buffer).serve()
    except BrokenPipeError:
        pass
    finally:
        os._exit(0)  # The thread that reads standard input still waits; Python would wait for it.


if __name__ == "__main__":
    main()
