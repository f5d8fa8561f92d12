"""The demo: real processes share one cache of a real database, and an oracle outside the cache judges what they get.

In the processes that use the cache:

    world.py      the organisations, teams and users; their tags; the questions that are asked about them
    database.py   the SQLite database
    queries.py    the cached functions
    ledger.py     the log of every execution
    oracle.py     the mapped file of true versions, finished invalidations and counts
    worker.py     the program of such a process: it does what it is told, line by line

In the process that directs them and never asks the cache for a value:

    show.py       from the first process to the exit status
    crew.py       the processes: started, told, killed, reaped
    acts.py       what is shown, one function an act; fatal.py the act with the kills
    scene.py      what an act works with
    signals.py    Ctrl-C and its like
    promise.py    what was promised, what was seen
    pace.py       twenty seconds, and how late this machine wakes a sleeper
    lines.py      the stage as lines of text; screen.py as a live picture, with tree.py for the tags
"""
