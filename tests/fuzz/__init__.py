"""Hostile input: what a stranger may send, thought up by the million, against the code that takes it.

`mutating`     seeded changes of bytes
`tallies`      what a target reports
`recorded`     what an honest peer sends: where the changes begin
`siege`        what the targets share that besiege a port
`pdus`         target: PDUs and messages, in process
`connections`  target: connections to a running receiver and Query/Retrieve SCP, an honest sender beside
`handshakes`   target: connections to the TLS port, an honest sender over TLS beside
`files`        target: instances through C-STORE and through the child process that reads them
`requests`     target: identifiers of C-FIND and DICOMweb requests
`operations`   target: C-MOVE, C-GET, and storage commitment
`pages`        target: requests to the web process: pages, forms, cookies; a signed-in person beside
`campaign`     all of them for some minutes (`make fuzz MINUTES=10`)

What once was a finding lies in `corpus/` and is sent again by every `make test`.
"""
