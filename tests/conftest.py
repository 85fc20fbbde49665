"""What all tests share: none asserts how long something takes, and Ctrl-C reaches every child."""

import signal

from hypothesis import settings

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # of a shell that put the tests aside
    signal.signal(signal.SIGINT, signal.default_int_handler)
