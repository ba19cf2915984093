"""Python processes that begin with the package imported: forks of one that has done so, torch and matplotlib included.

What a command does is what it does in a fresh process: arguments, environment, working folder, standard streams and
exit code are its own. Imports alone are not repeated, nor is what they brought taken to pieces at the end: seconds of
each command. Tests of imports themselves, of signals and of compiled code that processes share start real ones.
"""

import atexit
import functools
import importlib
import json
import os
import runpy
import subprocess
import sys
import tempfile
import threading
import traceback
from pathlib import Path

#: a fork takes no threads along, so that a process that forks must never have computed with several
ALONE = {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
#: what takes the time of a start, the last of torch when an optimizer is made
HEAVY = ("torch._dynamo", "matplotlib.pyplot", "scipy.stats", "latticediff.stages.run", "latticediff.cli.app")


class Warm:
    """A process that forks for each command.

    Parameters
    ----------
    **environment : str
        Variables beside those of this process, such as a PYTHONPATH with a package that is to be found.
    """

    def __init__(self, **environment):
        self.environment = {**ALONE, **environment}
        self.folder = tempfile.TemporaryDirectory()
        self.paths = [Path(self.folder.name) / name for name in ("stdout", "stderr")]
        orders, self.orders = os.pipe()
        answers, told = os.pipe()
        command = [sys.executable, __file__, str(orders), str(told)]
        self.process = subprocess.Popen(command, pass_fds=[orders, told], env=self._environment())
        os.close(orders)
        os.close(told)
        self.answers = os.fdopen(answers)
        atexit.register(self.close)

    def __call__(self, *words, cwd=None, **environment):
        """What ``subprocess.run([sys.executable, *words], capture_output=True, text=True)`` returns, in `cwd`."""
        everything = self._environment(**environment)
        order = [list(map(str, words)), str(cwd or os.getcwd()), list(map(str, self.paths)), everything]
        os.write(self.orders, json.dumps(order).encode() + b"\n")
        code = int(self.answers.readline())
        return subprocess.CompletedProcess(words, code, *(path.read_text(encoding="utf-8") for path in self.paths))

    def _environment(self, **further):
        return {**os.environ, **self.environment, **further}

    def close(self):
        """End it; its commands have ended."""
        if self.process.returncode is None:
            os.close(self.orders)
            self.process.wait()
            self.answers.close()
            self.folder.cleanup()


@functools.cache
def _shared():
    return Warm()


def python(*words, cwd=None, **environment):
    """Run ``python words``, in a fork of a process that all tests share; see `Warm`."""
    return _shared()(*words, cwd=cwd, **environment)


def latticediff(*words, **options):
    """Run a command of the package, as ``python -m latticediff`` does."""
    return python("-m", "latticediff", *words, **options)


def _be(words, cwd, paths, environment):
    """Do in this process what ``python words`` does."""
    os.chdir(cwd)
    for number, path in enumerate(paths, start=1):
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(handle, number)
        os.close(handle)
    os.environ.clear()
    os.environ.update(environment)
    option, script = words[0], words[1:]
    if option == "-m":
        sys.path[0], sys.argv = "", script
        runpy.run_module(script[0], run_name="__main__", alter_sys=True)
    elif option == "-c":
        sys.path[0], sys.argv = "", ["-c", *script[1:]]
        exec(compile(script[0], "<string>", "exec"), {"__name__": "__main__"})
    else:
        sys.path[0], sys.argv = str(Path(option).resolve().parent), words
        runpy.run_path(option, run_name="__main__")


def _exit_code(work, *arguments):
    """Of a process that does `work`, as the interpreter finds it."""
    try:
        work(*arguments)
    except SystemExit as done:
        if isinstance(done.code, str):
            print(done.code, file=sys.stderr)
        return done.code or 0 if isinstance(done.code, int | None) else 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def _serve(orders, answers):
    """Fork for each line that comes, and tell its exit code."""
    for name in HEAVY:
        importlib.import_module(name)
    lines = os.fdopen(orders)
    while line := lines.readline():
        pid = os.fork()
        if not pid:
            os.close(answers)
            code = _exit_code(_be, *json.loads(line))
            threading._shutdown()  # waits for threads, as the end of the interpreter does
            atexit._run_exitfuncs()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        os.write(answers, f"{code}\n".encode())


if __name__ == "__main__":
    _serve(*map(int, sys.argv[1:]))
