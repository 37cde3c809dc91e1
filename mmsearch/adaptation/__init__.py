"""Adapts a library's model to its content: small heads over the towers, trained on the library's own pairs.

`pairs` reads the training pairs from the catalog, `fit` trains heads with `early_stopping`, and `convert` saves them as
an adapted space and moves the library's vectors to it.
"""
