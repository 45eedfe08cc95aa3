"""Servers of every kind under ``segue run``: docs/SERVERS.md is made of this table and its runs."""

from __future__ import annotations

from bench.catalogue import python, services, web
from bench.catalogue.entry import Entry

CATALOGUE: tuple[Entry, ...] = (*python.ENTRIES, *web.ENTRIES, *services.ENTRIES)
