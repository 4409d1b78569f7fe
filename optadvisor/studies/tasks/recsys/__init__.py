"""Recommenders on generated ratings and clicks."""

from optadvisor.studies.tasks.recsys import dlrm, factorisation, hashed, two_tower

FAMILIES = (*factorisation.FAMILIES, *hashed.FAMILIES, *two_tower.FAMILIES, *dlrm.FAMILIES)
