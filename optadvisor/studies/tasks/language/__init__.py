"""Text: Python's own documentation, by characters and by words."""

from optadvisor.studies.tasks.language import ngram, recurrent, transformer

FAMILIES = (*ngram.FAMILIES, *recurrent.FAMILIES, *transformer.FAMILIES)
