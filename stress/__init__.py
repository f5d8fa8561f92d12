"""Programs that try to break the library's promises, and a bench.

They are not installed with it; run them from the repository:

    python -m stress storm --processes 8 --seconds 60 --seed 7 --storage lmdb

    herd, storm, killer, churn, reboot, forks, soak     the programs; each ends with status 0 only if every promise held
    partition               one more: several hosts and a server, with faults between them
    bench/                  speed, beside other caches, as ratios
    tree, ways, acts        the tags and keys of storm and killer; how they are read; how they are changed
    oracle, board, events   what the library is judged by: words in a mapped file, outside of the library
    history, proof          beside a run, by the events of all threads: whether each read can be explained
    kept_history            the file of such events, to judge them again
    threads                 of a process, which end together
    boots, keepsakes        of reboot: clocks that tell of another boot; what is kept across an end
    offspring, newcomer, places     of forks: how processes are born, live and end; where on the board
    meters                  of soak: what a run takes of its machine
    server                  of a run with one host, and its listener
    far, hosts, listener    of partition: who reads and writes; a network, a clock and a listener for each host
    faults, absence         of partition: what is done to them
    run, fleet, verdict     one run, its processes, and what it leaves in the segment
    arguments               what the command line may say
    remains                 what a run has left whose supervisor was killed, and its removal
    summary                 the line that each program ends with
    mutants                 faults planted in the library on purpose: an oracle that misses them proves nothing

What happens when is up to the kernel's scheduler, so a seed repeats the mixture of a run, not the run.
"""
