"""The server: an HTTP API, a page and an agents' door over one warm library. Needs the extra `[serve]`.

`policy` says who may ask, `gate` holds every request to it, `service` is what the routes share, and each other module
is one group of routes. No other command imports anything of this.
"""
