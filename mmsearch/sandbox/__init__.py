"""Decoding in processes of their own: a file that crashes, hangs or eats memory costs itself and nothing else.

`pool` starts the processes and bounds what they take together, `worker` is what runs in them, `work` is what they do.
Nothing is imported here, so that a worker loads no more than it needs.
"""
