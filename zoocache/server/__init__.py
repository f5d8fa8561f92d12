"""A Redis server, or any that speaks its language: where it is, what its keys are called, how it is asked.

    url.py       Address: what a URL means, and what of it may be shown
    names.py     Names: the keys of a prefix
    resp.py      the bytes of the protocol
    replies.py   which error a refusal of the server's means
    greeting.py  how a connection begins
    wire.py      one connection, for threads;  wire_async.py  one for an event loop;  tls.py  what rediss:// adds
    breaker.py   when to ask a server that did not answer
    link.py      Link: all connections of a process
    scripts.py   Script, and the Lua that all scripts begin with

Stores and buses lie above: nothing here knows what an entry or a message is.
"""
