"""Images: scikit-learn's handwritten digits and sample photographs."""

from optadvisor.studies.tasks.vision import cnn, mlp, vit

FAMILIES = (*mlp.FAMILIES, *cnn.FAMILIES, *vit.FAMILIES)
