"""Images: scikit-learn's handwritten digits and sample photographs."""

from optadvisor.studies.tasks.vision import autoencoder, cnn, mlp, vit

FAMILIES = (*mlp.FAMILIES, *cnn.FAMILIES, *vit.FAMILIES, *autoencoder.FAMILIES)
