"""Decodes files in separate processes, so that a file that crashes, hangs or exhausts memory harms no other.

`pool` starts the processes and limits their total memory, `worker` is their main loop, and `work` decodes a file.
Nothing is imported here, so that a worker loads no more than it needs.
"""
