"""Search: a query becomes hits in stages, each a function from data to data.

    query → items → encode → routes → retrieve → rank → confidence → answer

`engine.py` runs them in this order. No stage calls a later one.
"""
