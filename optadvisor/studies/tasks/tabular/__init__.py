"""Tables: three small ones that scikit-learn ships, and generated ones."""

from optadvisor.studies.tasks.tabular import linear, mlp

FAMILIES = (*linear.FAMILIES, *mlp.FAMILIES)
