"""Filters: which contents of a library may answer. Pure data and its grammar; `mmsearch.catalog.matching` decides."""

from mmsearch.filters.conditions import Expression, Fact
from mmsearch.filters.filter import Filter
from mmsearch.filters.grammar import Parsed, parse, parse_terms

__all__ = ["Expression", "Fact", "Filter", "Parsed", "parse", "parse_terms"]
