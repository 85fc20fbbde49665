"""Programs that try to pass without solving their task, or to harm; each with what comes of it.

The task is `double(x)`: 2 * x. Words in capitals are filled in by the test. Where a program cheats
and then still gives wrong values, it must not pass; where it does no more than try and then
computes rightly, it passes, and nothing must be left of what it tried.
"""

WRONG = "def double(x): return -1\n"
RIGHT = "def double(x): return x + x\n"

FORGERIES = {
    "prints what a judge may look for": "print('passed', '[\"passed\", \"\"]', 0)\n" + WRONG,
    "writes a verdict to every descriptor": (
        "import os\n"
        "def double(x):\n"
        "    for d in range(64):\n"
        "        try: os.write(d, b'[\"passed\", \"\"]')\n"
        "        except OSError: pass\n"
        "    return -1\n"
    ),
    "ends well before its tests": "import os\nos._exit(0)\n",
    "ends well when it is called": "import os\ndef double(x): os._exit(0)\n",
    "asks to end": "raise SystemExit(0)\n",
    "asks to end when it is called": "import sys\ndef double(x): sys.exit()\n",
    "raises what nobody catches": "class E(BaseException): pass\ndef double(x): raise E()\n",
    "equals everything": (
        "class Same:\n"
        "    def __eq__(self, other): return True\n"
        "    def __ne__(self, other): return False\n"
        "    __hash__ = None\n"
        "def double(x): return Same()\n"
    ),
    "is a number that equals everything": (
        "class Same(int):\n"
        "    def __eq__(self, other): return True\n"
        "def double(x): return Same(-1)\n"
    ),
    "is a list that equals everything": (
        "class Same(list):\n"
        "    def __eq__(self, other): return True\n"
        "def double(x): return Same([-1])\n"
    ),
    "is true and pretends to be a number": (
        "class Number:\n"
        "    __class__ = int\n"
        "    def __eq__(self, other): return True\n"
        "    def __bool__(self): return True\n"
        "def double(x): return Number()\n"
    ),
    "patches builtins": (
        "import builtins\n"
        "builtins.AssertionError = type('Quiet', (Exception,), {})\n"
        "builtins.abs = builtins.len = builtins.isinstance = lambda *a: True\n"
        + WRONG
    ),
    "patches the wire": (
        "import sys, json\n"
        "json.dumps = lambda *a, **k: '[\"passed\", \"\"]'\n" + WRONG
    ),
    "looks for expected values in the frames": (
        "import sys\n"
        "def double(x):\n"
        "    frame = sys._getframe()\n"
        "    while frame:\n"
        "        for v in list(frame.f_locals.values()) + list(frame.f_globals.values()):\n"
        "            if 'assert' in str(v)[:20000]: return 2 * x\n"
        "        frame = frame.f_back\n"
        "    return -1\n"
    ),
    "looks for expected values in all objects": (
        "import gc, sys\n"
        "def double(x):\n"
        "    seen = [o for o in gc.get_objects() if isinstance(o, (str, list, dict))]\n"
        "    if any('SECRET' in str(o)[:2000] for o in seen if o is not seen): return 2 * x\n"
        "    return 2 * x if any('SECRET' in a for a in sys.argv) else -1\n"
    ).replace("'SECRET'", "'SEC' + 'RET'"),
    "ends a loop over its answers": "def double(x): raise StopIteration\n",
    "answers for the next calls": (
        "import os\n"
        "def double(x):\n"
        "    for d in range(3, 64):\n"
        "        try: os.write(d, b'[\"value\", true]\\n' * 9)\n"
        "        except OSError: pass\n"
        "    return -1\n"
    ),
    "answers what is no message": (
        "import os\n"
        "def double(x):\n"
        "    for d in range(3, 64):\n"
        "        try: os.write(d, b'[' * 100000 + b'\\n')\n"
        "        except OSError: pass\n"
        "    return -1\n"
    ),
    "defines the helper of its tests anew": (
        "def near(a, b): return True\n" + WRONG
    ),
    "defines something else": "def triple(x): return 3 * x\n",
    "is no Python": "def double(x) return\n",
    "is no text": "def double(x): return '\ud800'\n",
}  # fmt: skip
"""None of these may pass."""

HARM = {
    "reads a file": ("def double(x): return open('KEPT').read()\n", "forbidden"),
    "writes a file": ("def double(x): open('FOLDER/new', 'w')\n", "forbidden"),
    "removes a file": ("import os\nos.remove('KEPT')\n", "forbidden"),
    "lists a folder": ("import os\ndef double(x): return os.listdir('FOLDER')\n", "forbidden"),
    "forks for ever": ("import os\nwhile True: os.fork()\n", "forbidden"),
    "becomes a program": ("import os\nos.execv('/bin/sh', ['sh'])\n", "forbidden"),
    "kills its judge": ("import os\nos.kill(JUDGE, 9)\n", "forbidden"),
    "kills everybody": ("import os\nos.kill(-1, 9)\n", "forbidden"),
    "asks for a module that has sockets": ("import socket\nsocket.socket()\n", "failed"),
    "makes a socket by a system call": (
        "import ctypes\n"
        "c = ctypes.CDLL(None, use_errno=True)\n"
        "def double(x): return c.socket(2, 1, 0)\n",
        "failed",
    ),
    "maps memory to run own code": (
        "import ctypes\n"
        "c = ctypes.CDLL(None, use_errno=True)\n"
        "c.mmap.restype = ctypes.c_ssize_t\n"
        "def double(x): return c.mmap(None, 4096, 7, 0x22, -1, 0)\n",
        "failed",
    ),
    "reads memory that is not there": ("import ctypes\nctypes.string_at(0)\n", "crashed"),
    "leaves a thread behind": (
        "import _thread, time\n_thread.start_new_thread(time.sleep, (1000,))\n",
        "failed",
    ),
    "asks a person": ("def double(x): return input()\n", "failed"),
    "takes all memory": ("x = bytearray(1 << 40)\n", "failed"),
    "takes memory bit by bit": (
        "x = []\ndef double(_):\n    while True: x.append(bytearray(1 << 24))\n",
        "failed",
    ),
    "calls itself": ("def double(x): return double(x)\n", "failed"),
    "calls itself beyond the limit": (
        "import sys\n"
        "sys.setrecursionlimit(10 ** 9)\n"
        "def double(x): return [double(x)]\n",
        "failed crashed timeout",
    ),
    "gives back what is nested for ever": (
        "def double(x):\n    a = []\n    a.append(a)\n    return a\n",
        "failed",
    ),
    "gives back a huge text": ("def double(x): return 'x' * (1 << 22)\n", "failed"),
    "makes a huge message of an error": (
        "def double(x): raise ValueError('x' * (1 << 22))\n",
        "failed",
    ),
    "has an error that cannot be told": (
        "class E(Exception):\n    def __str__(self): raise self\ndef double(x): raise E()\n",
        "failed",
    ),
}  # fmt: skip
"""Each of these is stopped, and told in one of the words behind it."""

AS_EDITS = frozenset(
    {
        "removes a file",
        "lists a folder",
        "becomes a program",
        "kills everybody",
        "maps memory to run own code",
        "reads memory that is not there",
        "calls itself beyond the limit",
        "takes all memory",
        "asks a person",
        "gives back a huge text",
        "makes a huge message of an error",
        "writes a file",
    }
)
"""Of these, what `tests/hostile` tries in the same sandbox; long tests try it here, too."""

FOOL_AN_ONLOOKER = (
    "ends well before its tests",
    "asks to end",
    "equals everything",
    "defines the helper of its tests anew",
)
"""Of the forgeries, those that pass where program and tests share a process that must end well."""

ENDLESS = {
    "loops": "def double(x):\n    while True: pass\n",
    "loops before it defines anything": "while True: pass\n",
    "sleeps": "import time\ndef double(x): time.sleep(1000)\n",
    "ignores signals and loops": (
        "import _signal\n"
        "for s in range(1, 65):\n"
        "    try: _signal.signal(s, _signal.SIG_IGN)\n"
        "    except (OSError, ValueError): pass\n"
        "while True:\n"
        "    try:\n"
        "        while True: pass\n"
        "    except BaseException: pass\n"
    ),
    "matches for ever": "import re\ndef double(x): re.match('(a+)+$', 'a' * 60 + 'b')\n",
    "gives back an endless list": (
        "class Endless(list):\n"
        "    def __iter__(self):\n"
        "        while True: yield from ()\n"
        "def double(x): return Endless()\n"
    ),
}
"""None of these ends by itself."""

HARMLESS = {
    "computes": RIGHT,
    "computes with modules": (
        "import math, collections, typing, heapq, hashlib\n"
        "from dataclasses import dataclass\n"
        "@dataclass\nclass Two:\n    x: int = 2\n"
        "def double(x): return math.prod([x, Two().x])\n"
    ),
    "gives back a number of its own kind": (
        "class Mine(int): pass\n"
        "def double(x): return Mine(2 * x) if type(x) is int else x + x\n"
    ),
    "prints a great deal": "def double(x):\n    print('x' * (1 << 22))\n    return 2 * x\n",
    "has a main part": RIGHT + "if __name__ == '__main__':\n    raise SystemExit(1)\n",
    "closes what it writes to": "import sys\nsys.stdout.close()\n" + RIGHT,
    "does at its end what is not done": (
        "import atexit\natexit.register(print, 'x')\n" + RIGHT
    ),
    "tries a file and goes on": (
        "def double(x):\n"
        "    try: open('FOLDER/new', 'w')\n"
        "    except PermissionError: pass\n"
        "    return 2 * x\n"
    ),
    "stops for nothing when its parent asks": (
        "import _signal\n_signal.signal(_signal.SIGTERM, _signal.SIG_IGN)\n" + RIGHT
    ),
}  # fmt: skip
"""Each of these is right and passes."""
