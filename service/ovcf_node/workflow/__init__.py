"""The stages in order: the only package that knows all of them.

`reading`   one series, files to findings (what the command line and the child process run)
`child`     the same in a child process, so that a crash in a codec or in inference ends only the child
`answering` findings to stored objects and planned deliveries
`judge`     the loop that decides what is due and enqueues it: the only enqueuer
`healing` files without rows and rows without files: what power cuts and restored backups leave behind
`durable`   the recorded steps of a reading, run by the engine in workers
`restored` whether a destination holds more than the ledger knows of
`delivering` the recorded step of a delivery, run by the engine in senders
"""
