"""Images: scikit-learn's handwritten digits and sample photographs."""

from optadvisor.studies.tasks.vision import mlp, vit

FAMILIES = (*mlp.FAMILIES, *vit.FAMILIES)
