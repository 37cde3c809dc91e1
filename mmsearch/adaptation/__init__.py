"""A library's model adapted to what the library holds: small heads over its towers, learnt from its own pairs.

`pairs` reads what can be learnt from, `fit` trains heads with `early_stopping`, and `convert` makes a space of them and
moves the library's vectors to it.
"""
