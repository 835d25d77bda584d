"""The pages for people, what people decide, and the figures for monitoring.

`decisions`   retry, hold, release, discard, assess: the pages and the command line decide here
`pages`       routes, roles, forms
`board`       the status page's data;  `standing` where a series stands in words
`study`       the study page's data;  `vertebrae` its table;  `objects` identity and words from DICOM files
`configuration` the settings in words;  `moments` times in words
`access`      who asks;  `sessions`, `users` what that rests on
`protection`  headers and refusals that hold for everybody
`names`       what studies are called in URLs
`metrics`     Prometheus metrics, derived from the ledger, the disk and the bundle at the moment of the scrape
`health`      alive, ready: the HTTP routes that need no sign-in

Server-rendered from `templates/`; the only script refreshes the status page. Nothing here encodes, reads images or
works queues: a decision changes the ledger, and judge, worker and sender do the rest.
"""
