"""Hostile input: what a stranger may send, thought up by the million, against the code that takes it.

`mutating`     seeded changes of bytes
`tallies`      what a target reports
`recorded`     what an honest peer sends: where the changes begin
`pdus`         target: PDUs and messages, in process
`connections`  target: connections to a running receiver and Query/Retrieve SCP, an honest sender beside
`files`        target: instances through C-STORE and through the child process that reads them
`requests`     target: identifiers and DICOMweb requests
`campaign`     all of them for some minutes (`make fuzz MINUTES=10`)

What once was a finding lies in `corpus/` and is sent again by every `make test`.
"""
