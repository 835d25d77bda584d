"""The pages for people and the figures for their monitoring.

`metrics`  Prometheus metrics, derived from the ledger, the disk and the bundle at the moment of the scrape
`health`   alive, ready: the HTTP routes that need no sign-in
"""
