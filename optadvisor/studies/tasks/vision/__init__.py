"""Images: scikit-learn's handwritten digits and sample photographs."""

from optadvisor.studies.tasks.vision import mlp

FAMILIES = (*mlp.FAMILIES,)
