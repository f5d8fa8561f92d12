"""The listener: one process for each host and prefix that sends what stands in the outbox and hears what others say.

    starter.py    in a user's process: sees that there is a listener, and starts one if there is none
    detached.py   the program that it starts: lets go of everything of that process, becomes a daemon
    process.py    the listener itself; `run` is the one in the foreground (`zoocache listen`)

It is a process of its own and never a thread: users fork, and a fork leaves threads behind. A kernel lock on a byte of
the segment keeps it single, so it may be killed at any time: the lock goes with it, and whoever looks next (about once
a second) starts another. One that is stopped keeps the lock, and nobody takes its place: it is alive, and may go on at
any moment. The host then falls behind, which `max_bus_lag` is for.

Settings go to it through a file in memory that only its descriptor leads to. Nothing of them is in its command line or
its environment.
"""
